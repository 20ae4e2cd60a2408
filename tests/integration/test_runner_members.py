"""Several processes of one group: what moves, what waits, what is handed over, and two that claim one static id."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from aiokafka import TopicPartition

from pipeline.errors import ConfigError
from pipeline.fetch import Batcher
from tests.integration.conftest import MakeDesk
from tests.integration.numbers import Reading
from tests.site import until

Held = dict[TopicPartition, int]  # partition -> number of its reader


def spread(readers: list[Reading], partitions: int) -> Callable[[], Awaitable[Held | None]]:
    """Who has which partition, once all (one more than the topic's: the redrive topic's) are shared out evenly."""
    least, more = divmod(partitions + 1, len(readers))
    even = sorted([least] * (len(readers) - more) + [least + 1] * more)

    async def probe() -> Held | None:
        held = [reading.partitions for reading in readers]
        if sorted(map(len, held)) != even or len(frozenset().union(*held)) != partitions + 1:
            return None
        return {p: number for number, own in enumerate(held) for p in own}

    return probe


def moved(before: Held, after: Held) -> int:
    return sum(1 for p in before if before[p] != after[p])


async def test_only_what_must_move_moves(make_desk: MakeDesk) -> None:
    """1 -> 2 -> 4 -> 3 processes on 12 partitions (and the one of the redrive topic) under traffic."""
    desk = await make_desk(12)
    async with AsyncExitStack() as stack:
        readers: list[Reading] = []

        async def grow(count: int) -> Held:
            while len(readers) < count:
                readers.append(await stack.enter_async_context(desk.reading()))
            return await until(spread(readers, 12), f"{count} readers to share the partitions")

        one = await grow(1)
        await desk.publish(range(1200))
        two = await grow(2)
        await desk.publish(range(1200, 2400))
        four = await grow(4)
        await desk.publish(range(2400, 3600))
        left = len(readers[3].partitions)
        await readers.pop().end()
        three = await until(spread(readers, 12), "three readers to share the partitions")
        await desk.publish(range(3600, 4800))
        await desk.settled()
    assert (moved(one, two), moved(two, four), moved(four, three)) == (6, 6, left)
    assert await desk.stored() == list(range(4800))


async def test_a_batch_over_which_its_reader_was_sent_back_is_fetched_again(
    make_desk: MakeDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rebalance while a batch is fetched: what was taken before comes once more, in the same batch."""
    doubled, whole = 0, Batcher.next

    async def twice(batcher: Batcher, client: Any) -> list[Any]:
        nonlocal doubled
        batch = await whole(batcher, client)
        if not batch or doubled == 3:
            return batch
        doubled += 1
        return [*batch, *batch]

    monkeypatch.setattr(Batcher, "next", twice)
    desk = await make_desk(2)
    async with desk.reading():
        await desk.publish(range(100))
        found = await desk.settled()
    assert await desk.stored() == list(range(100))
    assert (doubled, sum(a.records for a in found.values()), sum(a.gap for a in found.values())) == (3, 100, 0)


async def test_a_batch_in_flight_is_finished_before_its_partition_goes(make_desk: MakeDesk) -> None:
    desk = await make_desk(2)
    async with desk.reading() as first:
        await until(spread([first], 2), "the first reader")
        first.consumer.hold.clear()
        await desk.publish(range(100))
        await first.consumer.writing.wait()
        async with desk.reading() as second:
            await until(lambda: revoking(first), "the rebalance")
            assert second.partitions == frozenset()
            first.consumer.hold.set()
            await until(spread([first, second], 2), "both to share the partitions")
            await desk.publish(range(100, 200))
            await desk.settled()
    assert await desk.stored() == list(range(200))
    assert desk.metric("wapipe_records_total", outcome="written") == 200  # nothing was stored a second time in vain


async def revoking(reading: Reading) -> bool | None:
    return None if reading.runner._assigned else True


async def test_a_rebalance_does_not_wait_for_a_database_that_is_away(make_desk: MakeDesk) -> None:
    desk = await make_desk(2)
    async with desk.reading() as first:
        await until(spread([first], 2), "the first reader")
        first.consumer.away = True
        await desk.publish(range(100))
        await until(lambda: answers(first, "postgres_away"), "the pause")
        async with desk.reading() as second:
            second.consumer.away = True
            await until(spread([first, second], 2), "both to share the partitions")
            assert await desk.stored() == []
            first.consumer.away = second.consumer.away = False
            await desk.settled()
    assert await desk.stored() == list(range(100))


async def answers(reading: Reading, answer: str | None) -> bool | None:
    assert not reading.task.done()
    return True if reading.runner.ready() == answer else None


async def test_the_end_does_not_wait_for_a_database_that_is_away(make_desk: MakeDesk) -> None:
    desk = await make_desk(1)
    async with desk.reading(shutdown_grace_s="600") as reading:
        reading.consumer.away = True
        await desk.publish(range(100))
        await until(lambda: answers(reading, "postgres_away"), "the pause")
        async with asyncio.timeout(30):
            await reading.end()
    assert await desk.stored() == []
    async with desk.reading():
        await desk.settled()
    assert await desk.stored() == list(range(100))


async def test_the_end_waits_for_the_batch_in_flight(make_desk: MakeDesk) -> None:
    desk = await make_desk(1)
    async with desk.reading() as reading:
        reading.consumer.hold.clear()
        await desk.publish(range(100))
        await reading.consumer.writing.wait()
        reading.stop.set()
        await until(lambda: draining(reading), "the drain")
        reading.consumer.hold.set()
        await reading.task
    assert len(await desk.stored()) > 0


async def draining(reading: Reading) -> bool | None:
    return True if reading.runner._stopping else None


# ---------------------------------------------------------------- one static id, two processes
STATIC = {"instance_id": "numbers-1", "session_timeout_ms": "10000"}


async def test_the_newcomer_with_a_static_id_in_use_ends_and_the_first_one_goes_on(make_desk: MakeDesk) -> None:
    desk = await make_desk(2)
    async with desk.reading(**STATIC) as first:
        await desk.publish(range(100))
        await desk.settled()
        await asyncio.sleep(10)  # it counts as established after a session timeout
        async with desk.reading(**STATIC) as newcomer:
            await desk.publish(range(100, 200))
            failure = await newcomer.failure()
        await until(lambda: answers(first, "instance_id_taken"), "the first one to say so")
        await desk.publish(range(200, 300))
        await desk.settled()
        await until(lambda: answers(first, None), "peace")
    assert isinstance(failure, BaseExceptionGroup)
    [config] = failure.exceptions
    assert isinstance(config, ConfigError)
    assert "WAPIPE_INSTANCE_ID=numbers-1 is used by another live process" in str(config)
    assert await desk.stored() == list(range(300))


async def test_of_two_that_start_at_once_with_one_static_id_one_remains(make_desk: MakeDesk) -> None:
    desk = await make_desk(2)
    async with desk.reading(**STATIC) as one, desk.reading(**STATIC) as two:
        await desk.publish(range(200))
        await asyncio.wait({one.task, two.task}, return_when=asyncio.FIRST_COMPLETED)
        ended, left = (one, two) if one.task.done() else (two, one)
        failure = await ended.failure()
        await desk.publish(range(200, 300))
        await desk.settled()
        assert not left.task.done()
    assert isinstance(failure, BaseExceptionGroup)
    assert failure.subgroup(ConfigError) is not None
    assert await desk.stored() == list(range(300))


async def test_a_static_member_comes_back_without_a_rebalance(make_desk: MakeDesk) -> None:
    desk = await make_desk(4)
    ids = [STATIC | {"instance_id": f"numbers-{n}"} for n in range(2)]
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(desk.reading(**ids[0]))
        second = await stack.enter_async_context(desk.reading(**ids[1]))
        before = await until(spread([first, second], 4), "both")
        await second.end()
        again = await stack.enter_async_context(desk.reading(**ids[1]))
        after = await until(spread([first, again], 4), "both again")
        await desk.publish(range(100))
        await desk.settled()
    assert before == after
    assert await desk.stored() == list(range(100))


@pytest.mark.parametrize("count", [3])
async def test_more_processes_than_partitions_idle_and_are_well(make_desk: MakeDesk, count: int) -> None:
    desk = await make_desk(1)
    async with AsyncExitStack() as stack:
        readers = [await stack.enter_async_context(desk.reading()) for _ in range(count)]
        for reading in readers:
            await until(lambda r=reading: answers(r, None), "all to be ready")  # type: ignore[misc]
            assert reading.runner.alive() is None
        await desk.publish(range(50))
        await desk.settled()
    assert await desk.stored() == list(range(50))
