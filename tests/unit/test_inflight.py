"""What is in flight: who waits for what, and the order of those that are written side by side."""

from __future__ import annotations

import asyncio

import pytest

from pipeline.inflight import WRITERS, InFlight, SupersededError


def always() -> bool:
    return True


def state(flight: InFlight) -> tuple[bool, bool, bool]:
    return flight.idle.is_set(), flight.flushed.is_set(), flight.room.is_set()


async def test_who_may_go_on() -> None:
    flight = InFlight()
    assert state(flight) == (True, True, True)
    with flight.taking():
        assert state(flight) == (False, True, True)
        flight.handed_over()
        assert state(flight) == (False, False, True)
    assert state(flight) == (False, False, True)
    for _ in range(WRITERS - 1):
        flight.handed_over()
    assert state(flight) == (False, False, False)
    async with flight.writing(always):
        assert state(flight) == (False, False, False)
    assert state(flight) == (False, False, True)
    for _ in range(WRITERS - 1):
        async with flight.writing(always):
            assert state(flight) == (False, False, True)
    assert state(flight) == (True, True, True)


async def test_one_after_the_other_in_the_order_in_which_they_came() -> None:
    flight, done, may_end = InFlight(), list[int](), [asyncio.Event() for _ in range(3)]

    async def write(number: int) -> None:
        async with flight.writing(always) as turn:
            await turn.come()
            await may_end[number].wait()
            done.append(number)

    tasks = [asyncio.create_task(write(n)) for n in range(3)]
    for number in (2, 1):
        may_end[number].set()
    for _ in range(10):
        await asyncio.sleep(0)
    assert done == []
    may_end[0].set()
    await asyncio.gather(*tasks)
    assert done == [0, 1, 2]


async def test_the_next_one_may_begin_while_one_is_committed_until_that_fails() -> None:
    flight = InFlight()
    async with flight.writing(always) as first, flight.writing(always) as second:
        coming = asyncio.create_task(second.come())
        first.pass_on()
        await asyncio.wait_for(coming, 5)
        first.take_back()
        again = asyncio.create_task(second.come())
        for _ in range(10):
            await asyncio.sleep(0)
        assert not again.done()
        first.pass_on()
        await asyncio.wait_for(again, 5)
        second.pass_on()


async def test_one_that_is_dropped_passes_its_turn_on_after_those_before_it() -> None:
    flight, first_may_end, seen = InFlight(), asyncio.Event(), list[str]()

    async def first() -> None:
        async with flight.writing(always):
            await first_may_end.wait()
            seen.append("first")

    async def dropped() -> None:
        async with flight.writing(always):
            pass
        seen.append("dropped")

    async def third() -> None:
        async with flight.writing(always) as turn:
            await turn.come()
            seen.append("third")

    tasks = [asyncio.create_task(work()) for work in (first, dropped, third)]
    for _ in range(10):
        await asyncio.sleep(0)
    assert seen == []
    first_may_end.set()
    await asyncio.gather(*tasks)
    assert seen[0] == "first"
    assert sorted(seen[1:]) == ["dropped", "third"]


async def test_an_error_of_one_holds_nobody_up() -> None:
    flight = InFlight()
    flight.handed_over()
    with pytest.raises(RuntimeError, match="said the test"):
        async with flight.writing(always):
            raise RuntimeError("said the test")
    async with asyncio.timeout(5), flight.writing(always) as turn:
        await turn.come()


async def test_one_that_is_not_wanted_any_more_is_told_when_its_turn_comes() -> None:
    flight = InFlight()
    flight.handed_over()
    async with flight.writing(lambda: False) as turn:
        with pytest.raises(SupersededError):
            await turn.come()
