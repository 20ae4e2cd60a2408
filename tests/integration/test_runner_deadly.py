"""A record that kills every process which decodes it is dead-lettered in the end, alone, and an operator's kill -9 never
makes one."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from tests.integration.conftest import MakeDesk
from tests.integration.numbers import DEADLY, STUCK, Desk
from tests.integration.processes import process
from tests.site import until

EXIT_OF_DEADLY = 9


async def restarted_until_settled(desk: Desk, log: Path, **more: str) -> list[int | None]:
    """Starts the process again whenever it ends, as an orchestrator does; answers how it ended."""
    ends: list[int | None] = []
    settled = asyncio.create_task(desk.settled(patience_s=300))
    while not settled.done():
        async with process(desk, log, session_timeout_ms="6000", **more) as running:
            ending = asyncio.create_task(running.wait())
            await asyncio.wait({settled, ending}, return_when=asyncio.FIRST_COMPLETED)
            if ending.done() and not settled.done():
                ends.append(running.returncode)
    await settled
    return ends


async def suspects(desk: Desk) -> list[tuple[int, int, int]]:
    sql = 'SELECT partition, "offset", deaths FROM whatsapp_gateway.suspects WHERE consumer = $1 ORDER BY 1'
    return [tuple(row) for row in await desk.pool.fetch(sql, desk.name)]


async def test_a_record_that_kills_is_dead_lettered_alone(make_desk: MakeDesk, tmp_path: Path) -> None:
    """In the third batch of one of two partitions; static ids, so that a restart does not wait for the dead member."""
    desk = await make_desk(2)
    values: list[int | bytes] = list(range(400))
    values[251] = DEADLY
    await desk.publish(values)
    ends = await restarted_until_settled(
        desk, tmp_path / "log", batch_rows="50", suspect_after_deaths="2", instance_id="numbers-1"
    )
    assert set(ends) == {EXIT_OF_DEADLY}
    # One death when it was met, two at the head of what was left; some more when a batch was cut elsewhere.
    assert 3 <= len(ends) <= 6, (tmp_path / "log").read_text()
    [letter] = await desk.letters()
    headers = dict(letter.headers)
    assert (letter.value, headers["dead-reason"]) == (DEADLY, b"kills_process")
    assert (headers["dead-partition"], headers["dead-offset"]) == (b"1", b"125")
    assert await desk.stored() == [n for n in range(400) if n != 251]
    assert await suspects(desk) == []


async def test_two_that_kill_in_one_batch(make_desk: MakeDesk, tmp_path: Path) -> None:
    desk = await make_desk(1)
    await desk.publish([DEADLY, *range(1, 20), DEADLY, *range(21, 30)])
    ends = await restarted_until_settled(desk, tmp_path / "log", suspect_after_deaths="1", instance_id="numbers-1")
    assert ends == [EXIT_OF_DEADLY]
    assert [letter.value for letter in await desk.letters()] == [DEADLY, DEADLY]
    assert await desk.stored() == [*range(1, 20), *range(21, 30)]


async def test_kills_from_outside_blame_no_record(make_desk: MakeDesk, tmp_path: Path) -> None:
    """Killed again and again with its first batch in hand: tried in a child, found innocent, stored."""
    desk = await make_desk(1)
    await desk.publish([*range(100), STUCK])
    for deaths in range(4):
        async with process(desk, tmp_path / "log", instance_id="numbers-1", suspect_after_deaths="2"):
            await until(lambda n=deaths: announced(desk, n), "the batch to be announced")  # type: ignore[misc]
            if deaths >= 2:
                await until(lambda: said(tmp_path / "log", b"suspects.on_trial"), "the trial")
    async with desk.reading(instance_id="numbers-1", suspect_after_deaths="2") as reading:
        reading.consumer.stuck = False
        await desk.settled()
    assert await desk.stored() == [-2, *range(100)]
    assert await desk.letters() == []
    assert await suspects(desk) == []


async def announced(desk: Desk, deaths: int) -> bool | None:
    return True if await suspects(desk) == [(0, 0, deaths)] else None


async def test_a_process_that_leaves_withdraws_what_it_announced(make_desk: MakeDesk) -> None:
    desk = await make_desk(1)
    await desk.publish(range(10))
    async with desk.reading() as reading:
        reading.consumer.hold.clear()
        await reading.consumer.writing.wait()
        assert await suspects(desk) == [(0, 0, 0)]
        reading.consumer.away = True
        reading.consumer.hold.set()
        await reading.end()
    assert await suspects(desk) == []


@pytest.mark.parametrize("signals", [1, 2])
async def test_the_second_sigterm_aborts(make_desk: MakeDesk, tmp_path: Path, signals: int) -> None:
    """A batch is stuck in its transaction: the first SIGTERM waits for it as long as it may, the second does not."""
    desk = await make_desk(1)
    await desk.publish([STUCK])
    grace_s = "600" if signals == 2 else "1"
    async with process(desk, tmp_path / "log", shutdown_grace_s=grace_s) as running:
        await until(lambda: announced(desk, 0), "the batch to be announced")
        running.send_signal(signal.SIGTERM)
        if signals == 2:
            await until(lambda: said(tmp_path / "log", b"process.stopping"), "the first signal to be heard")
            running.send_signal(signal.SIGTERM)
        code = await asyncio.wait_for(running.wait(), 60)
    assert code == (0 if signals == 1 else 128 + signal.SIGTERM), (tmp_path / "log").read_text()
    assert await desk.stored() == []


async def test_a_database_that_does_not_answer_holds_up_no_stop(make_desk: MakeDesk, tmp_path: Path) -> None:
    """What was announced cannot be withdrawn: somebody holds its row for longer than the process has for its end."""
    desk = await make_desk(1)
    await desk.publish([STUCK])
    async with process(desk, tmp_path / "log", shutdown_grace_s="1") as running:
        await until(lambda: announced(desk, 0), "the batch to be announced")
        async with desk.pool.acquire() as connection, connection.transaction():
            locked = "SELECT FROM whatsapp_gateway.suspects WHERE consumer = $1 FOR UPDATE"
            assert await connection.fetch(locked, desk.name)
            running.send_signal(signal.SIGTERM)
            code = await asyncio.wait_for(running.wait(), 120)
    assert code == 0, (tmp_path / "log").read_text()
    assert await suspects(desk) != []


async def said(log: Path, slug: bytes) -> bool | None:
    return True if slug in await asyncio.to_thread(log.read_bytes) else None
