"""Errors that must not leave a process that looks healthy and reads nothing, nor one that dies of what passes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import CorruptRecordException, GroupAuthorizationFailedError

from pipeline import runner, stream, write
from pipeline.errors import FatalError
from pipeline.inflight import WRITERS
from tests.integration.conftest import MakeDesk
from tests.integration.numbers import Number, Reading
from tests.site import until


async def answers(reading: Reading, answer: str | None) -> bool | None:
    assert not reading.task.done()
    return True if reading.runner.ready() == answer else None


def breaking(monkeypatch: pytest.MonkeyPatch, reading: Reading, *errors: Exception, after: int = 0) -> None:
    """The client raises these instead of giving records; each time it has taken records out of its buffer first."""
    client, left = reading.runner._stream.client, list(errors)
    getmany, calls = client.getmany, 0

    async def broken(**options: Any) -> Any:
        nonlocal calls
        calls += 1
        if left and calls > after:
            await getmany(**options)
            raise left.pop(0)
        return await getmany(**options)

    monkeypatch.setattr(client, "getmany", broken)


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (GroupAuthorizationFailedError("g"), "kafka_away"),
        (CorruptRecordException("Invalid CRC"), "kafka_away"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "a header's name"), "bug_away"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
async def test_an_error_of_the_client_loses_nothing(
    make_desk: MakeDesk, monkeypatch: pytest.MonkeyPatch, error: Exception, answer: str
) -> None:
    desk = await make_desk(2)
    async with desk.reading(batch_rows="20") as reading:
        await until(lambda: answers(reading, None), "the start")
        breaking(monkeypatch, reading, error, error, after=3)
        await desk.publish(range(500))
        await until(lambda: answers(reading, answer), "the pause")
        accounts = await desk.settled()
        await until(lambda: answers(reading, None), "the end of the pause")
    assert await desk.stored() == list(range(500))
    assert {a.gap for a in accounts.values()} == {0}


async def test_a_client_that_never_recovers_ends_the_process(
    make_desk: MakeDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after the death of aiokafka's coordination task, which it reports at every call from then on."""
    monkeypatch.setattr(stream, "_HOPELESS_AFTER_S", 1.0)
    monkeypatch.setattr(stream, "_RETRY_S", 0.2)
    desk = await make_desk(1)
    async with desk.reading() as reading:
        await until(lambda: answers(reading, None), "the start")
        coordinator = reading.runner._stream.client._coordinator
        coordinator._heartbeat_task.cancel()
        coordinator._coordination_task.cancel()
        await asyncio.gather(coordinator._coordination_task, return_exceptions=True)
        dead: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        dead.set_exception(GroupAuthorizationFailedError("g"))
        coordinator._coordination_task = dead
        failure = await reading.failure()
    assert isinstance(failure, BaseExceptionGroup)
    [fatal] = failure.exceptions
    assert isinstance(fatal, FatalError)
    assert "nothing can be fetched for 1 s: GroupAuthorizationFailedError" in str(fatal)


async def test_a_bug_of_the_consumer_is_waited_out_with_its_batch(
    make_desk: MakeDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = await make_desk(1)
    async with desk.reading() as reading:
        await until(lambda: answers(reading, None), "the start")
        write, raised = reading.consumer.write, 0

        async def broken(*arguments: Any) -> Any:
            nonlocal raised
            raised += 1
            if raised == 1:
                raise RuntimeError("a bug")
            return await write(*arguments)

        monkeypatch.setattr(reading.consumer, "write", broken)
        await desk.publish(range(50))
        await until(lambda: answers(reading, "bug_away"), "the pause")
        assert reading.runner.alive() is None
        await desk.settled()
        await until(lambda: answers(reading, None), "the end of the pause")
    assert await desk.stored() == list(range(50))


@pytest.mark.parametrize("first_fails", [False, True])
async def test_the_next_batch_is_staged_beside_and_stored_after_the_one_before(
    make_desk: MakeDesk, monkeypatch: pytest.MonkeyPatch, *, first_fails: bool
) -> None:
    """And it is dropped with it, when that one is: both are fetched again."""
    monkeypatch.setattr(runner, "MAX_BACKOFF_S", 0.2)
    desk = await make_desk(1)
    async with desk.reading(batch_rows="10") as reading:
        staged, written, consumer = list[int](), list[int](), reading.consumer
        write, fail = consumer.write, first_fails

        async def stage(_: Any, facts: list[Number]) -> None:
            staged.append(facts[0].n)

        async def noted(connection: Any, facts: list[Number]) -> Any:
            nonlocal fail
            written.append(facts[0].n)
            await consumer.hold.wait()
            if fail:
                fail = False
                raise RuntimeError("a bug")
            return await write(connection, facts)

        monkeypatch.setattr(consumer, "stage", stage)
        monkeypatch.setattr(consumer, "write", noted)
        consumer.hold.clear()
        await desk.publish(range(40))

        async def all_staged() -> bool | None:
            return True if len(staged) == WRITERS else None

        await until(all_staged, "a batch of each writer that is staged")
        assert written == staged[:1]
        consumer.hold.set()
        await desk.settled()
    assert await desk.stored() == list(range(40))
    assert written == sorted(written)
    assert staged.count(staged[0]) == (2 if first_fails else 1)
    assert desk.metric("wapipe_records_total", outcome="written") == 40


async def test_no_transaction_waits_long_for_its_turn(make_desk: MakeDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    """One batch takes long: those behind it let their transactions go, and are staged again when their turn comes."""
    monkeypatch.setattr(write, "_STAGED_S", 0.05)
    desk = await make_desk(1)
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND state = 'idle in transaction'"
    async with desk.reading(batch_rows="10") as reading:
        staged, consumer = list[int](), reading.consumer

        async def stage(_: Any, facts: list[Number]) -> None:
            staged.append(facts[0].n)

        async def let_go() -> bool | None:
            behind = len(staged) == WRITERS and await desk.pool.fetchval(waiting, f"wapipe {desk.name}") == 1
            return True if behind else None

        monkeypatch.setattr(consumer, "stage", stage)
        consumer.hold.clear()
        await desk.publish(range(40))
        await until(let_go, "the transactions behind the first to end")
        consumer.hold.set()
        await desk.settled()
    assert await desk.stored() == list(range(40))
    assert [staged.count(first) for first in staged[:WRITERS]] == [1, *[2] * (WRITERS - 1)]


async def test_where_a_process_died_the_first_batch_goes_alone(
    make_desk: MakeDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = await make_desk(1)
    died = "INSERT INTO whatsapp_gateway.suspects VALUES ($1, $2, 0, 0, gen_random_uuid())"
    await desk.pool.execute(died, desk.name, desk.topic.name)
    async with desk.reading(batch_rows="10") as reading:
        consumer, decoded, beside = reading.consumer, list[int](), list[int]()
        tp = TopicPartition(desk.settings.kafka.topic_prefix + desk.topic.name, 0)
        write, decode = consumer.write, consumer.decode

        def noted(event: Any) -> Number:
            number = decode(event)
            decoded.append(number.n)
            return number

        async def next_is_fetched() -> bool | None:
            return True if await reading.runner._stream.client.position(tp) > len(decoded) else None

        async def written(connection: Any, facts: list[Number]) -> Any:
            if facts[0].n == 0:
                await until(next_is_fetched, "the second batch")
                beside.extend(decoded[len(facts) :])
            return await write(connection, facts)

        monkeypatch.setattr(consumer, "decode", noted)
        monkeypatch.setattr(consumer, "write", written)
        await desk.publish(range(40))
        await desk.settled()
    assert beside == []
    assert await desk.stored() == list(range(40))


async def test_an_invariant_that_breaks_while_preparing_ends_the_process(
    make_desk: MakeDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = await make_desk(1)
    async with desk.reading() as reading:

        async def broken(facts: list[Any]) -> list[Any]:
            raise FatalError(f"said the test of {len(facts)}")

        monkeypatch.setattr(reading.consumer, "prepare", broken)
        await desk.publish([7])
        failure = await reading.failure()
    assert isinstance(failure, BaseExceptionGroup)
    assert failure.subgroup(FatalError) is not None
    assert await desk.stored() == []


async def test_a_process_that_is_never_given_partitions_is_not_alive(
    make_desk: MakeDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = await make_desk(1)
    async with desk.reading() as reading:
        await until(lambda: answers(reading, None), "the start")
        monkeypatch.setattr(reading.runner, "_assigned", False)
        monkeypatch.setattr(reading.runner, "_progress_at", reading.runner._progress_at - 100)
        assert (reading.runner.ready(), reading.runner.alive()) == ("no_assignment", None)
        monkeypatch.setattr(reading.runner, "_progress_at", reading.runner._progress_at - 100)
        assert reading.runner.alive() == "no_progress"
