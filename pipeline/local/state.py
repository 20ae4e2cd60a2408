"""The state file of a stack: who supervises it, what runs, how it is. Written whole or not at all.

The supervisor writes it at every change; `status`, `down` and the next `up` read it. A process counts as
itself only if its start time agrees: pids are used again.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import psutil

Phase = Literal["starting", "ready", "backoff", "stopped", "failed"]

_SAME_START_S = 1.0  # the kernel counts start times in hundredths of a second from boot
_KILLED_S = 15
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class ProcessState:
    """One service as it is now. `started_at` is its pid's start, in seconds since the epoch."""

    name: str
    pid: int | None
    state: Phase
    restarts: int
    port: int | None
    started_at: float | None
    log: str
    ended: str | None = None  # how it ended the last time


@dataclass(frozen=True, slots=True)
class StackState:
    """The supervisor and all its services. `error` says why the stack could not start."""

    pid: int
    started_at: float
    state: Phase
    processes: tuple[ProcessState, ...] = ()
    error: str | None = None

    @property
    def alive(self) -> bool:
        """True if the supervisor that wrote this runs."""
        return is_same(self.pid, self.started_at)


def write_state(path: Path, state: StackState) -> None:
    """Replaces the file at once; a reader sees the old or the new one."""
    staging = path.with_suffix(f".{os.getpid()}")
    staging.write_text(json.dumps(asdict(state), indent=1), "utf-8")
    staging.replace(path)


def read_state(path: Path) -> StackState | None:
    """What the file says; None if there is none or it is not one of ours."""
    try:
        raw: dict[str, Any] = json.loads(path.read_text("utf-8"))
        processes = tuple(ProcessState(**each) for each in raw.pop("processes"))
        return StackState(processes=processes, **raw)
    except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
        return None


def is_same(pid: int | None, started_at: float | None) -> bool:
    """True if `pid` runs and is the process that started then."""
    if pid is None or started_at is None:
        return False
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - started_at) < _SAME_START_S and not _is_dead(process)
    except psutil.NoSuchProcess:
        return False


def wait_gone(processes: list[psutil.Process], timeout_s: float) -> bool:
    """True as soon as none of them runs. Blocks; for a thread of its own."""
    deadline = time.monotonic() + timeout_s
    while not all(_is_dead(p) for p in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _is_dead(process: psutil.Process) -> bool:
    """Ended, or ended and not yet buried by an init that takes its time.

    A zombie whose threads are still ending (a killed JVM) holds its ports and counts as alive.
    """
    try:
        if not process.is_running():
            return True
        return process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1
    except psutil.NoSuchProcess:
        return True


def end_leftovers(state: StackState) -> list[str]:
    """Kills what a killed supervisor left, with its children, and waits for its end. Returns the names."""
    left = [p for p in state.processes if is_same(p.pid, p.started_at)]
    family: list[psutil.Process] = []
    for process in left:
        assert process.pid is not None
        with contextlib.suppress(psutil.NoSuchProcess):
            parent = psutil.Process(process.pid)
            family += [parent, *parent.children(recursive=True)]
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    for each in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    wait_gone(family, _KILLED_S)
    return [p.name for p in left]
