"""The publisher against a broker that stops answering: deadlines of ours, cancellations of others, and coming back."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from pipeline.broker import Publisher, Sending, apply_topics
from pipeline.errors import PoisonError, TransientError
from pipeline.reader import read_bounds
from pipeline.settings import KafkaSettings, load_settings
from schemas.topics import MAX_RECORD_BYTES, PARKED
from tests.site import until
from tests.stack import Servers


@pytest.fixture
async def publisher(settings_env: dict[str, str]) -> AsyncIterator[Publisher]:
    settings = load_settings(settings_env)
    await apply_topics(settings.kafka, [PARKED])
    async with Publisher(settings.kafka) as publisher:
        assert await publisher.wait_ready(30)
        yield publisher


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Our child holds still: all its threads, which is not yet so when `kill` returns."""
    os.kill(pid, signal.SIGSTOP)
    try:
        os.waitid(os.P_PID, pid, os.WSTOPPED)
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def publish(publisher: Publisher, deadline_s: float = 20) -> None:
    await publisher.publish(PARKED.name, b"key", b"value", [], deadline_s=deadline_s)


async def test_every_send_ends_at_its_own_deadline(publisher: Publisher, servers: Servers) -> None:
    kafka = await servers.kafka()
    await publish(publisher)
    with frozen(kafka.child.pid):
        sends = [asyncio.create_task(publish(publisher, deadline_s)) for deadline_s in (0.3, 0.6, 60)]
        done, _ = await asyncio.wait(sends, timeout=30, return_when=asyncio.FIRST_COMPLETED)
        assert done == {sends[0]}
        with pytest.raises(TransientError, match="TimeoutError"):
            sends[0].result()
        with pytest.raises(TransientError):
            await sends[1]
        assert not publisher.ready
        assert not sends[2].done()
    await sends[2]  # delivered when the broker is back
    assert publisher.ready


async def test_a_cancellation_of_somebody_else_stays_one(publisher: Publisher, servers: Servers) -> None:
    kafka = await servers.kafka()
    await publish(publisher)
    with frozen(kafka.child.pid):
        send = asyncio.create_task(publish(publisher, 60))
        await asyncio.sleep(0)
        send.cancel()
        with pytest.raises(asyncio.CancelledError):
            await send
        with pytest.raises(TimeoutError):  # the caller's own, not the publisher's
            async with asyncio.timeout(0.05):
                await publish(publisher, 60)


async def test_while_nothing_is_acknowledged_sends_fail_at_once_but_for_probes(
    publisher: Publisher, servers: Servers
) -> None:
    kafka = await servers.kafka()
    await publish(publisher)
    with frozen(kafka.child.pid):
        with pytest.raises(TransientError, match="TimeoutError"):
            await publish(publisher, 0.1)
        with pytest.raises(TransientError, match="not acknowledged in time"):
            await publish(publisher, 60)

    async def probe() -> bool | None:
        try:
            await publish(publisher, 5)
        except TransientError:
            return None
        return True

    assert await until(probe, "the broker to answer again")
    assert publisher.ready


async def test_many_at_once(publisher: Publisher, servers: Servers) -> None:
    """One that no broker takes holds up no other; all of them have one deadline."""
    large: Sending = (b"key", bytes(MAX_RECORD_BYTES + 1), [])
    few: list[Sending] = [(b"%d" % n, b"value", []) for n in range(50)]
    assert await publisher.publish_all(PARKED.name, few, deadline_s=20) == []
    [refused] = await publisher.publish_all(PARKED.name, [*few, large, *few], deadline_s=20)
    assert refused.reason == "too_large_for_broker"
    assert await publisher.publish_all(PARKED.name, [], deadline_s=20) == []
    bounds = await read_bounds(publisher._kafka, PARKED)
    assert sum(end for _, end in bounds.values()) == 150
    kafka = await servers.kafka()
    with frozen(kafka.child.pid), pytest.raises(TransientError, match="TimeoutError"):
        await publisher.publish_all(PARKED.name, few, deadline_s=0.3)
    assert not publisher.ready


async def test_singly_and_in_order(publisher: Publisher) -> None:
    """What is published at the same time goes together, in order and each with its own answer."""
    numbers = [b"%d" % n for n in range(200)]
    large = publisher.publish(PARKED.name, b"key", bytes(MAX_RECORD_BYTES + 1), [], deadline_s=20)
    sends = [publisher.publish(PARKED.name, b"key", value, [("n", value)], deadline_s=20) for value in numbers]
    refused, *others = await asyncio.gather(large, *sends, return_exceptions=True)
    assert isinstance(refused, PoisonError)
    assert others == [None] * len(numbers)
    records = [record async for record in read_all(publisher._kafka)]
    assert [value for value, _ in records] == numbers
    assert [headers for _, headers in records] == [(("n", value),) for value in numbers]


async def read_all(kafka: KafkaSettings) -> AsyncIterator[tuple[bytes | None, tuple[tuple[str, bytes], ...]]]:
    """Value and headers of all that the topic has."""
    [(_, (_, end))] = (await read_bounds(kafka, PARKED)).items()
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap_servers, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([TopicPartition(kafka.topic_prefix + PARKED.name, 0)])
        for _ in range(end):
            record = await consumer.getone()
            yield record.value, tuple(record.headers)
    finally:
        await consumer.stop()
