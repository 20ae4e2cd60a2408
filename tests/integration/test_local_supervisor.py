"""The supervisor with small real programs: order, restarts, failures. Its pauses take no time here."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import pytest

from pipeline.local.child import ChildError
from pipeline.local.service import Service
from pipeline.local.state import ProcessState, is_same
from pipeline.local.supervisor import Hooks, Supervisor

Satisfied = Callable[[tuple[ProcessState, ...]], bool]

SLEEPER = (
    "import os, signal\nsignal.signal(signal.SIGTERM, lambda *_: os._exit(0))\nprint('up', flush=True)\nsignal.pause()"
)


def program(
    name: str,
    code: str = SLEEPER,
    *,
    needs: tuple[str, ...] = (),
    once: bool = False,
    folder: Path = Path("/"),
) -> Service:
    log = folder / "logs" / f"{name}.log"

    async def ready() -> bool:
        return log.is_file() and "up" in log.read_text()

    return Service(
        name=name, argv=(sys.executable, "-I", "-S", "-c", code), cwd=Path("/"), env={}, ready=ready,
        needs=needs, once=once, ready_timeout_s=20, stop_timeout_s=10,
    )  # fmt: skip


class Watch:
    """Wakes a test when the supervisor's states satisfy it, and keeps its pauses."""

    def __init__(self) -> None:
        self.pauses: list[float] = []
        self.now = 0.0
        self._changed = asyncio.Event()

    @property
    def hooks(self) -> Hooks:
        return Hooks(changed=self._changed.set, sleep=self._sleep, clock=lambda: self.now)

    async def until(self, supervisor: Supervisor, satisfied: Callable[[tuple[ProcessState, ...]], bool]) -> None:
        async with asyncio.timeout(30):
            while not satisfied(supervisor.snapshot()):
                self._changed.clear()
                await self._changed.wait()

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(0)


async def test_starts_in_order_and_stops_without_a_trace(tmp_path: Path) -> None:
    watch = Watch()
    services = [
        program("app", needs=("step",), folder=tmp_path),
        program("step", "print('done')", needs=("server",), once=True, folder=tmp_path),
        program("server", folder=tmp_path),
    ]
    supervisor = Supervisor(services, tmp_path / "logs", watch.hooks)
    await supervisor.start()
    states = {p.name: p for p in supervisor.snapshot()}
    assert {n: p.state for n, p in states.items()} == {"server": "ready", "app": "ready"}
    assert (tmp_path / "logs" / "step.log").read_text() == "done\n"
    pids = [p.pid for p in states.values() if p.pid]
    await supervisor.stop()
    assert {p.state for p in supervisor.snapshot()} == {"stopped"}
    assert not any(psutil.pid_exists(pid) for pid in pids)


async def test_a_killed_process_is_started_again(tmp_path: Path) -> None:
    watch = Watch()
    supervisor = Supervisor([program("server", folder=tmp_path)], tmp_path / "logs", watch.hooks)
    await supervisor.start()
    try:
        for times in (1, 2, 3):
            pid = supervisor.snapshot()[0].pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            await watch.until(supervisor, lambda s, n=times: s[0].restarts == n and s[0].state == "ready")  # type: ignore[misc]
            assert supervisor.snapshot()[0].ended == "SIGKILL"
            assert supervisor.snapshot()[0].pid != pid
        assert watch.pauses == [0.5, 1, 2]
    finally:
        await supervisor.stop()


async def test_one_that_cannot_start_ends_all_and_shows_its_log(tmp_path: Path) -> None:
    broken = program("broken", "print('no such table: x'); raise SystemExit(3)", needs=("server",), folder=tmp_path)
    supervisor = Supervisor([program("server", folder=tmp_path), broken], tmp_path / "logs")
    with pytest.raises(ChildError, match=r"broken ended with exit status 3 at its start(?s:.*)no such table: x"):
        await supervisor.start()
    states = {p.name: (p.state, p.pid) for p in supervisor.snapshot()}
    assert states == {"server": ("stopped", None), "broken": ("failed", None)}


async def test_a_failed_step_ends_the_start(tmp_path: Path) -> None:
    step = program("migrate", "raise SystemExit(78)", once=True, folder=tmp_path)
    app = program("app", needs=("migrate",), folder=tmp_path)
    with pytest.raises(ChildError, match="migrate ended with exit status 78"):
        await Supervisor([step, app], tmp_path / "logs").start()
    assert not (tmp_path / "logs" / "app.log").exists()


async def test_what_a_process_started_ends_with_it(tmp_path: Path) -> None:
    """A grandchild in a session of its own, as PostgreSQL's backends are."""
    code = (
        "import os, signal\nif os.fork() == 0:\n    os.setsid(); print('up', os.getpid(), flush=True)\nsignal.pause()"
    )
    supervisor = Supervisor([program("parent", code, folder=tmp_path)], tmp_path / "logs")
    await supervisor.start()
    grandchild = int((tmp_path / "logs" / "parent.log").read_text().split()[1])
    started = psutil.Process(grandchild).create_time()
    assert is_same(grandchild, started)
    await supervisor.stop()
    assert not is_same(grandchild, started)


async def test_giving_up_a_start_stops_what_was_started(tmp_path: Path) -> None:
    never = program("slow", "import signal; signal.pause()", needs=("server",), folder=tmp_path)
    watch = Watch()
    supervisor = Supervisor([program("server", folder=tmp_path), never], tmp_path / "logs", watch.hooks)
    start: Awaitable[None] = asyncio.ensure_future(supervisor.start())
    await watch.until(supervisor, lambda s: {p.name: p.pid for p in s}.get("slow") is not None)
    pids = [p.pid for p in supervisor.snapshot() if p.pid]
    asyncio.ensure_future(start).cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert len(pids) == 2
    assert not any(psutil.pid_exists(pid) for pid in pids)
