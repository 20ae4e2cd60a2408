"""The short form: every scenario of plan.py, its lanes side by side; each test waits for its own.

A scenario mostly waits, for processes to start and for servers to come back. Each lane runs one scenario after the other;
those that break servers have servers of their own.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.faults.plan import SCENARIOS, SERVERS, Lane, Plan, Results
from tests.faults.rig import Rig

_TIMEOUT_S = 1800  # every wait inside is bounded; this is for machines that are busy with something else
Tasks = dict[str, asyncio.Task[Results]]


@pytest.fixture(scope="module")
async def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Tasks]:
    """The chosen scenarios by name, under way."""
    chosen = [n for n in SCENARIOS if any(i.name.endswith(f"[{n}]") for i in request.session.items)]
    rigs: dict[str, tuple[Rig, asyncio.Task[None]]] = {}
    turns: dict[Lane, asyncio.Lock] = defaultdict(asyncio.Lock)
    tasks: Tasks = {}
    async with AsyncExitStack() as ends:
        for name in chosen:
            lane = SCENARIOS[name].lane
            if SERVERS[lane] not in rigs:
                rig = Rig()
                ends.push_async_callback(rig.stop)
                rigs[SERVERS[lane]] = rig, asyncio.create_task(rig.start())
                ends.push_async_callback(_cancel, rigs[SERVERS[lane]][1])
            work = _run(name, *rigs[SERVERS[lane]], turns[lane], tmp_path_factory.mktemp(name))
            tasks[name] = asyncio.create_task(work)
            ends.push_async_callback(_cancel, tasks[name])
        yield tasks


async def _run(name: str, rig: Rig, started: asyncio.Task[None], turn: asyncio.Lock, logs: Path) -> Results:
    async with turn:
        await asyncio.shield(started)
        return await SCENARIOS[name].run(rig, logs, Plan())


async def _cancel(task: asyncio.Task[Results] | asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.timeout(_TIMEOUT_S)
@pytest.mark.parametrize("name", SCENARIOS)
async def test_nothing_is_lost_and_nothing_doubled(running: Tasks, name: str, figures: dict[str, list[str]]) -> None:
    results = await running[name]
    figures["faults"] += results.lines()
    for outcome in results.outcomes:
        outcome.check()
