"""A whole stack for as long as a context lasts: servers, migrations, topics and wapipe's processes.

`wapipe up`, the demo and tests use it. One stack a data folder at a time: a lock file says so, and the kernel
takes the lock back if we die. Must be entered on the main thread's event loop (see child.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import psutil

from pipeline.errors import WapipeError
from pipeline.local.cache import Say, silent, try_lock
from pipeline.local.environment import to_environment
from pipeline.local.plan import SERVERS, Plan, check_ports, install, resolve, services
from pipeline.local.state import (
    Phase,
    ProcessState,
    StackState,
    end_leftovers,
    read_state,
    wait_gone,
    write_state,
)
from pipeline.local.supervisor import Hooks, Supervisor
from pipeline.process import Process
from pipeline.registry import select
from pipeline.settings import Settings, load_settings, read_environment

STATE_FILE, LOCK_FILE = "state.json", "lock"
_KILLED_S = 10


def data_folder(settings: Settings, chosen: Path | None = None) -> Path:
    """--data, or WAPIPE_DATA_DIR, or ./.wapipe."""
    return (chosen or settings.local.data_dir or Path(".wapipe")).expanduser().resolve()


def is_running(data: Path) -> bool:
    """True if a supervisor holds the folder."""
    try:
        fd = os.open(data / LOCK_FILE, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        if not try_lock(fd):
            return True
        fcntl.flock(fd, fcntl.LOCK_UN)
        return False
    finally:
        os.close(fd)


class StackRunningError(WapipeError):
    """Another stack runs with this data folder."""


class Stack:
    """Everything of the settings, or the chosen parts of it.

    `overrides` is environment on top of the settings; a port of 0 is replaced by a free one; `settings` then
    holds what really is, `snapshot` how each process does. `processes=[]` runs servers alone, unmigrated.
    """

    def __init__(
        self,
        settings: Settings,
        data_dir: Path | None = None,
        *,
        servers: Sequence[str] = SERVERS,
        processes: Sequence[Process] | None = None,
        overrides: Mapping[str, str] | None = None,
        say: Say = silent,
    ) -> None:
        environ = read_environment()
        if overrides:
            settings = load_settings(to_environment(settings) | dict(overrides))
        self.data = data_folder(settings, data_dir)
        self._wanted = select(["all"]) if processes is None else list(processes)
        self._plan: Plan = resolve(settings, servers, self._wanted, self.data, environ)
        self._say = say
        self._lock: int | None = None
        self._state: Phase = "starting"
        self._error: str | None = None
        self._supervisor = Supervisor([], self.data / "logs")

    @property
    def settings(self) -> Settings:
        """The settings as the children see them."""
        return self._plan.settings

    def snapshot(self) -> tuple[ProcessState, ...]:
        """Every process: pid, state, restarts, port."""
        return self._supervisor.snapshot()

    async def __aenter__(self) -> Stack:
        """Returns when all is ready. Raises ConfigError, ChildError, InstallError, StackRunningError; then
        nothing is left running.
        """
        self._take()
        try:
            await self._start()
        except BaseException as exc:
            self._error = str(exc) or type(exc).__name__
            await self._release("failed")
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops everything and waits until it is gone."""
        await self._supervisor.stop()
        await self._release("stopped")

    def kill(self) -> None:
        """SIGKILL to everything, at once: for the second signal of an impatient user."""
        self._supervisor.kill()

    async def _start(self) -> None:
        before = read_state(self.data / STATE_FILE)
        if before is not None and (left := await asyncio.to_thread(end_leftovers, before)):
            self._say(f"ended what an earlier run left: {', '.join(left)}")
        self._write()
        await check_ports(self._plan)
        installed = await install(self._plan, self._say)
        hooks = Hooks(changed=self._write, say=self._say)
        self._supervisor = Supervisor(services(self._plan, installed), self.data / "logs", hooks)
        await self._supervisor.start()
        self._state = "ready"
        self._write()

    def _take(self) -> None:
        """The lock of the data folder. Raises ConfigError if another stack has it."""
        self.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(self.data / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
        if not try_lock(fd):
            os.close(fd)
            other = read_state(self.data / STATE_FILE)
            who = f" (process {other.pid})" if other else ""
            raise StackRunningError(
                f"a stack runs already{who} with {self.data}: `wapipe down` stops it, or use --data"
            )
        self._lock = fd

    async def _release(self, state: Phase) -> None:
        self._state = state
        self._write()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _write(self) -> None:
        started = psutil.Process().create_time()
        state = StackState(os.getpid(), started, self._state, self.snapshot(), self._error)
        write_state(self.data / STATE_FILE, state)


def read_stack(data: Path) -> StackState | None:
    """The state of the stack in `data`, whether it runs or not; None if there never was one."""
    return read_state(data / STATE_FILE)


async def stop_stack(data: Path, patience_s: float = 90) -> bool:
    """Stops the stack of `data` and waits; ends leftovers of a killed one. False if there was nothing."""
    state = await _present_state(data)
    if state is None:
        return False
    running = state.alive and is_running(data)  # a demo may have left its stack and still be there
    if running:
        with contextlib.suppress(psutil.NoSuchProcess):
            supervisor = psutil.Process(state.pid)
            supervisor.terminate()
            if not await asyncio.to_thread(wait_gone, [supervisor], patience_s):
                supervisor.kill()
                await asyncio.to_thread(wait_gone, [supervisor], _KILLED_S)
    left = await asyncio.to_thread(end_leftovers, read_state(data / STATE_FILE) or state)
    return running or bool(left)


async def _present_state(data: Path) -> StackState | None:
    """The state, of the supervisor that holds the folder if one does: it may not have written its own yet."""
    state = read_state(data / STATE_FILE)
    for _ in range(50):
        if (state is not None and state.alive) or not is_running(data):
            break
        await asyncio.sleep(0.1)
        state = read_state(data / STATE_FILE)
    return state
