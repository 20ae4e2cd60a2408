"""Topics that are partly or wholly bad: what is bad is dead-lettered, what is good is stored, the process never ends; a
flood slows its own partition down and says so."""

from __future__ import annotations

import pytest

from tests.integration.conftest import MakeDesk
from tests.integration.numbers import BAD, REFUSED, Desk, Reading
from tests.site import until

# Small figures, so that a test sees several pauses.
FLOOD = {"flood_records": "40", "flood_pause_s": "0.5", "batch_rows": "50"}
SLOWED = "wapipe_flooded_partitions"


async def answers(reading: Reading, answer: str | None) -> bool | None:
    assert not reading.task.done()
    assert reading.runner.alive() is None
    return True if reading.runner.ready() == answer else None


async def dead_offsets(desk: Desk) -> list[tuple[int, int]]:
    found = []
    for record in await desk.letters():
        headers = dict(record.headers)
        found.append((int(headers["dead-partition"]), int(headers["dead-offset"])))
    return sorted(found)


@pytest.mark.parametrize("bad", [BAD, REFUSED], ids=["cannot be decoded", "refused by the database"])
async def test_a_topic_of_nothing_but_bad_records(make_desk: MakeDesk, bad: bytes) -> None:
    desk = await make_desk(2)
    await desk.publish([bad] * 300, partition=0)
    async with desk.reading(**FLOOD) as reading:
        await until(lambda: answers(reading, "dead_letter_flood"), "the alarm")
        assert (desk.metric(SLOWED), desk.metric("wapipe_paused", reason="flood")) == (1, 1)
        await desk.publish(range(500), partition=1)  # the other partition is not slowed down
        await until(lambda: stored(desk, 500), "the other partition")
        await desk.settled()
        await desk.publish(range(500, 600), partition=0)
        await until(lambda: answers(reading, None), "the end of the flood")
        assert (desk.metric(SLOWED), desk.metric("wapipe_paused", reason="flood")) == (0, 0)
        accounts = await desk.settled()
    assert await dead_offsets(desk) == [(0, n) for n in range(300)]
    assert (accounts[0].dead, accounts[0].written) == (300, 100)
    assert await desk.stored() == list(range(600))


async def stored(desk: Desk, count: int) -> bool | None:
    return True if await desk.count() == count else None


async def test_a_topic_that_is_half_bad(make_desk: MakeDesk) -> None:
    desk = await make_desk(1)
    await desk.publish([n if n % 2 else BAD for n in range(300)])
    async with desk.reading(**FLOOD) as reading:
        await until(lambda: answers(reading, "dead_letter_flood"), "the alarm")
        await desk.settled()
    assert await dead_offsets(desk) == [(0, n) for n in range(0, 300, 2)]
    assert await desk.stored() == list(range(1, 300, 2))


async def test_one_bad_record_in_a_hundred_is_no_flood(make_desk: MakeDesk) -> None:
    desk = await make_desk(1)
    await desk.publish([n if n % 100 else BAD for n in range(5000)])
    async with desk.reading(flood_records="10", batch_rows="500") as reading:
        await desk.settled()
        assert reading.runner.ready() is None
    assert await dead_offsets(desk) == [(0, n) for n in range(0, 5000, 100)]
    assert await desk.stored() == [n for n in range(5000) if n % 100]


async def test_a_flood_moves_with_its_partition(make_desk: MakeDesk) -> None:
    """Stopped and started in the middle of a flood: nothing twice, nothing missing."""
    desk = await make_desk(1)
    await desk.publish([BAD] * 1000)  # a start takes five batches of 50 at most
    for _ in range(3):
        async with desk.reading(**FLOOD) as reading:
            await until(lambda r=reading: answers(r, "dead_letter_flood"), "the alarm")  # type: ignore[misc]
    async with desk.reading(**FLOOD):
        accounts = await desk.settled()
    assert (accounts[0].dead, accounts[0].records) == (1000, 1000)
    assert await dead_offsets(desk) == [(0, n) for n in range(1000)]
