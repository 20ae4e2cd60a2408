"""The short form: every scenario of plan.py, two lanes side by side; each test waits for its own.

A scenario mostly waits, for processes to start and for servers to come back. So the rough ones run one after the other
on servers of their own, while the others run two at a time on another broker and database.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

from tests.faults.plan import SCENARIOS, Plan, Results
from tests.faults.rig import Rig

_AT_A_TIME = 2
_TIMEOUT_S = 1800  # every wait inside is bounded; this is for machines that are busy with something else
Tasks = dict[str, asyncio.Task[Results]]


@pytest.fixture(scope="module")
async def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Tasks]:
    """The chosen scenarios by name, under way."""
    chosen = [n for n in SCENARIOS if any(i.name.endswith(f"[{n}]") for i in request.session.items)]
    tasks: Tasks = {}
    lanes = [
        asyncio.create_task(_lane(tasks, names, at_a_time, tmp_path_factory))
        for rough, at_a_time in ((True, 1), (False, _AT_A_TIME))
        if (names := [n for n in chosen if SCENARIOS[n].rough is rough])
    ]
    try:
        while len(tasks) < len(chosen):
            ended = [lane for lane in lanes if lane.done()]
            for lane in ended:
                lane.result()
            await asyncio.sleep(0.05)
        yield tasks
    finally:
        for task in (*tasks.values(), *lanes):
            task.cancel()
        await asyncio.gather(*lanes, *tasks.values(), return_exceptions=True)


async def _lane(tasks: Tasks, names: Iterable[str], at_a_time: int, folders: pytest.TempPathFactory) -> None:
    """Runs these on a rig of their own, so many at a time."""
    rig, slots = Rig(), asyncio.Semaphore(at_a_time)

    async def run(name: str, logs: Path) -> Results:
        async with slots:
            return await SCENARIOS[name].run(rig, logs, Plan())

    mine: list[asyncio.Task[Results]] = []
    try:
        await rig.start()
        for name in names:
            tasks[name] = asyncio.create_task(run(name, folders.mktemp(name)), name=name)
            mine.append(tasks[name])
        await asyncio.gather(*mine, return_exceptions=True)
    finally:
        for task in mine:
            task.cancel()
        await asyncio.gather(*mine, return_exceptions=True)
        await rig.stop()


@pytest.mark.timeout(_TIMEOUT_S)
@pytest.mark.parametrize("name", SCENARIOS)
async def test_nothing_is_lost_and_nothing_doubled(running: Tasks, name: str, figures: dict[str, list[str]]) -> None:
    results = await running[name]
    figures["faults"] += results.lines()
    for outcome in results.outcomes:
        outcome.check()
