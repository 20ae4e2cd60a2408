"""One running service: spawned through launch.py, its output in a log, asked until ready, stopped whole.

Used by the supervisor for everything it runs and by tests for single servers. Spawns from the thread of the
event loop: that thread's end is what the kernel takes for our death.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

import psutil

from pipeline.errors import WapipeError
from pipeline.local.service import Service
from pipeline.local.state import wait_gone

_LAUNCH = Path(__file__).with_name("launch.py")
_POLL_S = 0.05
_LOG_KEEP_BYTES = 8 * 1024 * 1024
_TAIL_LINES = 15
_KILLED_S = 10  # a killed process is gone at once, unless it hangs in the kernel


class ChildError(WapipeError):
    """A program ended or did not become ready. The message has the last lines of its log."""


class Child:
    """One process of `service`; make a new one for a restart."""

    def __init__(self, service: Service, log: Path) -> None:
        self.service = service
        self.log = log
        self.started_at = 0.0  # seconds since the epoch, as the kernel has it
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """The program's process id. Only after `start`."""
        assert self._process is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs; minus the signal's number if a signal ended it."""
        return self._process.returncode if self._process else None

    async def start(self) -> None:
        """Prepares and spawns; does not wait until it is ready."""
        if self.service.prepare is not None:
            await self.service.prepare()
        self._process = await _spawn(self.service, self.log)
        self.started_at = _create_time(self._process.pid)

    async def wait(self) -> int:
        """Its exit status, once it has ended."""
        assert self._process is not None
        return await self._process.wait()

    async def wait_ready(self) -> None:
        """Returns when it is ready and settled. Raises ChildError if it ends before or takes too long."""
        deadline = time.monotonic() + self.service.ready_timeout_s
        while not await self.service.ready():
            if self.returncode is not None:
                raise ChildError(f"{self.service.name} ended with {status(self.returncode)} at its start{self.tail()}")
            if time.monotonic() > deadline:
                waited = f"{self.service.ready_timeout_s:.0f} s"
                raise ChildError(f"{self.service.name} was not ready within {waited}{self.tail()}")
            await asyncio.sleep(_POLL_S)
        if self.service.settle is not None:
            await self.service.settle()

    async def finish(self) -> None:
        """Waits for the end of a step. ChildError unless it ends within `ready_timeout_s` with status 0."""
        service = self.service
        try:
            async with asyncio.timeout(service.ready_timeout_s):
                code = await self.wait()
        except TimeoutError:
            raise ChildError(f"{service.name} took longer than {service.ready_timeout_s:.0f} s{self.tail()}") from None
        if code != 0:
            raise ChildError(f"{service.name} ended with {status(code)}{self.tail()}")

    async def stop(self) -> None:
        """Ends it and whatever it started: its stop signal, then SIGKILL. Returns when all of it is gone."""
        if self._process is None:
            return
        family = _family(self.pid)
        if self.returncode is None:
            _signal(self.pid, self.service.stop_signal)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.service.stop_timeout_s):
                    await self.wait()
        await self._end(family)

    def kill(self) -> None:
        """SIGKILL at once to all of it; `stop` waits for the end."""
        if self._process is not None and self.returncode is None:
            _kill(self.pid, _family(self.pid))

    def tail(self) -> str:
        """The last lines of its log, ready to be put behind a message."""
        lines = self.log.read_text("utf-8", "replace").splitlines()[-_TAIL_LINES:] if self.log.is_file() else []
        return "".join(f"\n    {line}" for line in [f"last lines of {self.log}:", *lines])

    async def _end(self, family: list[psutil.Process]) -> None:
        _kill(self.pid, family)
        await self.wait()
        await asyncio.to_thread(wait_gone, family, _KILLED_S)


async def _spawn(service: Service, log: Path) -> asyncio.subprocess.Process:
    """Starts it in a session of its own, with its output appended to `log`; it dies with us."""
    jail = service.jail
    spec = {
        "parent": os.getpid(),
        "death_signal": int(service.death_signal),
        "uid": jail.uid,
        "gid": jail.gid,
        "chroot": str(jail.chroot) if jail.chroot else None,
        "binds": [[str(source), str(target)] for source, target in jail.binds],
        "read_all": jail.read_all,
        "cwd": str(service.cwd),
    }
    launch = [sys.executable, "-I", "-S", str(_LAUNCH), json.dumps(spec)]
    with _opened(log) as output:
        return await asyncio.create_subprocess_exec(
            *launch, *service.argv, env=dict(service.env), start_new_session=True,
            stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip


async def run_once(service: Service, log: Path) -> None:
    """Runs a step. Raises ChildError as `Child.finish` does."""
    child = Child(service, log)
    try:
        await child.start()
        await child.finish()
    finally:
        await child.stop()


@contextlib.asynccontextmanager
async def running(service: Service, logs: Path) -> AsyncIterator[Child]:
    """`service` alone, ready, for as long as the context lasts."""
    child = Child(service, logs / f"{service.name}.log")
    try:
        await child.start()
        await child.wait_ready()
        yield child
    finally:
        await child.stop()


def status(code: int) -> str:
    """An exit status in words."""
    if code >= 0:
        return f"exit status {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _opened(log: Path) -> BinaryIO:
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.is_file() and log.stat().st_size > _LOG_KEEP_BYTES:
        log.replace(log.with_suffix(".log.1"))
    return log.open("ab")


def _create_time(pid: int) -> float:
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return time.time()


def _family(pid: int) -> list[psutil.Process]:
    """All descendants now: PostgreSQL's backends leave the process group, so that is not enough."""
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _kill(group: int, family: list[psutil.Process]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
