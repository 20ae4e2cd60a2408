"""Offsets that the broker no longer has: counted exactly, said, and never a reason to stand still."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import pytest

from pipeline.broker import admin_client
from pipeline.errors import FatalError
from tests.integration.conftest import MakeDesk
from tests.integration.numbers import Desk, Reading
from tests.site import until

LOST = "wapipe_retention_lost_records_total"
SMALL = {"batch_rows": "10", "batch_age_ms": "0", "fetch_max_bytes": "4096"}  # little is in memory


def lag(reading: Reading) -> Callable[[], Awaitable[bool | None]]:
    """True when it sees that nothing is left to read."""

    async def probe() -> bool | None:
        assert reading.runner.alive() is None
        return True if reading.runner._assigned and reading.runner._lag == 0 else None

    return probe


async def test_a_new_group_starts_at_the_earliest(make_desk: MakeDesk) -> None:
    desk = await make_desk(3)
    await desk.publish(range(300))
    await desk.delete_before(40, partition=1)
    async with desk.reading():
        accounts = await desk.settled()
    assert await desk.stored() == [n for n in range(300) if n % 3 != 1 or n >= 120]
    assert {(a.first_offset, a.gap) for a in accounts.values()} == {(0, 0), (40, 0)}
    assert desk.metric(LOST) == 0  # it had never been there


async def test_retention_before_the_first_record_is_read(make_desk: MakeDesk) -> None:
    """The books are open from the first assignment on: what a consumer could have read is not passed over in silence."""
    desk = await make_desk(1)
    async with desk.reading() as reading:
        await until(lag(reading), "no lag")
    await desk.publish(range(100))
    await desk.delete_before(60)
    async with desk.reading():
        accounts = await desk.settled()
    assert await desk.stored() == list(range(60, 100))
    assert (accounts[0].first_offset, accounts[0].gap, desk.metric(LOST)) == (0, 60, 60)


async def test_retention_while_stopped(make_desk: MakeDesk, caplog: pytest.LogCaptureFixture) -> None:
    desk = await make_desk(1)
    await desk.publish(range(100))
    async with desk.reading():
        await desk.settled()
    await desk.publish(range(100, 300))
    await desk.delete_before(250)
    with caplog.at_level(logging.ERROR, "wapipe.gaps"):
        async with desk.reading() as reading:
            accounts = await desk.settled()
            await until(lag(reading), "no lag")
    assert await desk.stored() == [*range(100), *range(250, 300)]
    assert (accounts[0].records, accounts[0].gap, desk.metric(LOST)) == (150, 150, 150)
    [said] = [r for r in caplog.records if r.getMessage() == "offsets.lost"]
    assert said.__dict__["records"] == 150


async def test_retention_that_leaves_nothing(make_desk: MakeDesk) -> None:
    """No record comes to show the gap, and yet it is booked: else the lag would never end."""
    desk = await make_desk(2)
    await desk.publish(range(100), partition=0)
    async with desk.reading():
        await desk.settled()
    await desk.publish(range(100, 200), partition=0)
    await desk.delete_before(200)
    async with desk.reading() as reading:
        accounts = await desk.settled()
        await until(lag(reading), "no lag")
        assert (accounts[0].next_offset, accounts[0].gap, desk.metric(LOST)) == (200, 100, 100)
        await desk.publish(range(200, 210), partition=0)
        await desk.publish(range(210, 220), partition=1)
        await desk.settled()
    assert await desk.stored() == [*range(100), *range(200, 220)]


@pytest.mark.parametrize("left", [0, 500])
async def test_retention_while_it_lags(make_desk: MakeDesk, left: int) -> None:
    """What was in memory is stored; only what was never fetched is lost."""
    desk = await make_desk(1)
    async with desk.reading(**SMALL) as reading:
        await desk.publish(range(10))
        await desk.settled()
        reading.consumer.away = True
        await desk.publish(range(10, 2000), max_batch_size=1024)  # a fetch brings one such batch at least
        await until(lambda: held(reading, "postgres_away"), "the pause")
        await desk.delete_before(2000 - left)
        reading.consumer.away = False
        accounts = await desk.settled()
        await until(lag(reading), "no lag")
    stored = await desk.stored()
    kept = len(stored) - 10 - left
    assert 0 < kept < 1400
    assert stored == [*range(10 + kept), *range(2000 - left, 2000)]
    assert accounts[0].gap == desk.metric(LOST) == 2000 - left - 10 - kept


async def held(reading: Reading, answer: str | None) -> bool | None:
    return True if reading.runner.ready() == answer else None


async def test_markers_of_transactions_are_passed_over_and_are_no_loss(make_desk: MakeDesk) -> None:
    desk = await make_desk(1)
    async with desk.reading() as reading:
        for n in range(3):
            await desk.publish(range(10 * n, 10 * n + 10), transactional_id=f"{desk.name}-t")
        accounts = await desk.settled()
        await until(lag(reading), "no lag")
    assert await desk.stored() == list(range(30))
    assert (accounts[0].records, accounts[0].gap, desk.metric(LOST)) == (30, 3, 0)


async def test_a_topic_made_anew_while_it_is_read_ends_the_process(make_desk: MakeDesk) -> None:
    desk = await make_desk(1)
    async with desk.reading() as reading:
        await desk.publish(range(100))
        await desk.settled()
        async with admin_client(desk.settings.kafka) as client:
            await client.delete_topics([desk.settings.kafka.topic_prefix + desk.topic.name])
        await until(lambda: remade(desk), "the topic to be made anew")
        await desk.publish(range(5))
        failure = await reading.failure()
    assert isinstance(failure, BaseExceptionGroup)
    [fatal] = failure.exceptions
    assert isinstance(fatal, FatalError)
    assert "the topic was made anew" in str(fatal)


async def remade(desk: Desk) -> bool | None:
    await desk.make_topics()
    return True
