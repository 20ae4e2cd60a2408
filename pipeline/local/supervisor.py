"""Keeps services running: starts them in the order of their needs, the dead again, stops all in reverse.

A service that does not come up the first time fails the whole start; one that dies later is started again
after a pause that doubles from 0.5 s to 30 s and begins anew once it has lived a minute. Knows none by name.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import WapipeError
from pipeline.local.cache import Say, silent
from pipeline.local.child import Child, status
from pipeline.local.service import Service
from pipeline.local.state import Phase, ProcessState

Sleep = Callable[[float], Awaitable[None]]
Clock = Callable[[], float]


class Backoff:
    """The pause before a restart, in seconds."""

    first_s, most_s, reset_after_s = 0.5, 30.0, 60.0

    def __init__(self) -> None:
        self._next_s = self.first_s

    def pause_s(self, lived_s: float) -> float:
        """The pause after a process that lived that long."""
        if lived_s >= self.reset_after_s:
            self._next_s = self.first_s
        pause, self._next_s = self._next_s, min(self._next_s * 2, self.most_s)
        return pause


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the supervisor is told with: after every change of a state, in words, and how time passes."""

    changed: Callable[[], None] = lambda: None
    say: Say = silent
    sleep: Sleep = asyncio.sleep
    clock: Clock = time.monotonic


class Supervisor:
    """Runs `services`, the needed ones first."""

    def __init__(self, services: Sequence[Service], logs: Path, hooks: Hooks | None = None) -> None:
        self._keepers = {s.name: _Keeper(s, logs, hooks or Hooks()) for s in ordered(services)}

    def snapshot(self) -> tuple[ProcessState, ...]:
        """The long-running services, and steps that failed."""
        return tuple(k.state for k in self._keepers.values() if not k.service.once or k.state.state == "failed")

    async def start(self) -> None:
        """Returns when all is ready. Raises the first error (ChildError, ConfigError) after stopping all."""
        try:
            async with asyncio.TaskGroup() as group:
                for keeper in self._keepers.values():
                    needs = [self._keepers[n] for n in keeper.service.needs if n in self._keepers]
                    group.create_task(keeper.begin(needs))
        except BaseExceptionGroup as errors:
            await self.stop()
            raise _first(errors) from errors
        except asyncio.CancelledError:
            await self.stop()
            raise

    def kill(self) -> None:
        """SIGKILL to everything at once, without waiting."""
        for keeper in self._keepers.values():
            keeper.kill()

    async def stop(self) -> None:
        """Stops everything, dependents before what they need; those of one level together."""
        levels = _levels([k.service for k in self._keepers.values()])
        for level in reversed(levels):
            await asyncio.gather(*(self._keepers[s.name].end() for s in level))


class _Keeper:
    """One service and its present child."""

    def __init__(self, service: Service, logs: Path, hooks: Hooks) -> None:
        self.service = service
        self.ready = asyncio.Event()
        self._log = logs / f"{service.name}.log"
        self._hooks = hooks
        self._child = Child(service, self._log)
        self._backoff = Backoff()
        self._watch: asyncio.Task[None] | None = None
        port = service.ports[0] if service.ports else None
        self.state = ProcessState(service.name, None, "stopped", 0, port, None, str(self._log))

    async def begin(self, needs: Sequence[_Keeper]) -> None:
        for keeper in needs:
            await keeper.ready.wait()
        try:
            await self._bring_up()
        except WapipeError:
            self._set("failed", ended="did not start")
            raise
        self.ready.set()
        if not self.service.once:
            self._watch = asyncio.create_task(self._keep(), name=f"keep {self.service.name}")

    async def end(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
        await self._child.stop()
        if self.state.state != "failed":
            self._set("stopped")

    def kill(self) -> None:
        self._child.kill()

    async def _bring_up(self) -> None:
        self._child = Child(self.service, self._log)
        self._set("starting")
        await self._child.start()
        self._set("starting")
        if self.service.once:
            await self._child.finish()
            self._set("stopped")
        else:
            await self._child.wait_ready()
            self._set("ready")

    async def _keep(self) -> None:
        while True:
            since = self._hooks.clock()
            ended = status(await self._child.wait())
            await self._child.stop()  # what it may have left behind
            await self._revive(ended, self._hooks.clock() - since)

    async def _revive(self, ended: str, lived_s: float) -> None:
        """Starts it again, as often as it takes."""
        while True:
            pause = self._backoff.pause_s(lived_s)
            self._hooks.say(f"{self.service.name} ended ({ended}); starting it again in {pause:g} s")
            self._set("backoff", restarts=self.state.restarts + 1, ended=ended)
            await self._hooks.sleep(pause)
            since = self._hooks.clock()
            try:
                await self._bring_up()
            except WapipeError as exc:
                await self._child.stop()
                ended, lived_s = str(exc).partition("\n")[0], self._hooks.clock() - since
            else:
                self._hooks.say(f"{self.service.name} is back")
                return

    def _set(self, state: Phase, *, restarts: int | None = None, ended: str | None = None) -> None:
        running = self._child.started_at > 0 and self._child.returncode is None
        self.state = ProcessState(
            self.service.name,
            self._child.pid if running else None,
            state,
            self.state.restarts if restarts is None else restarts,
            self.state.port,
            self._child.started_at if running else None,
            str(self._log),
            ended or self.state.ended,
        )
        self._hooks.changed()


def ordered(services: Sequence[Service]) -> list[Service]:
    """Every service after those it needs. Raises ValueError for a circle."""
    return [s for level in _levels(services) for s in level]


def _levels(services: Sequence[Service]) -> list[list[Service]]:
    names = {s.name for s in services}
    placed: set[str] = set()
    left, levels = list(services), []
    while left:
        level = [s for s in left if placed.issuperset(names.intersection(s.needs))]
        if not level:
            raise ValueError(f"services need each other: {', '.join(s.name for s in left)}")
        levels.append(level)
        placed |= {s.name for s in level}
        left = [s for s in left if s not in level]
    return levels


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first of ours: a group is for the machine, a person wants one sentence."""
    ours = group.subgroup(WapipeError)
    exc: BaseException = ours or group
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    return exc
