"""Lanes: what gathers, what goes together, whom a failure concerns; the producer is a stand-in, its batches are real."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import DefaultRecordBatch

from pipeline.lanes import Lanes, Sent, partition_of
from schemas.topics import MAX_RECORD_BYTES

BATCH_BYTES = 2000
PARTITIONS = 4
Values = list[bytes]


class Producer:
    """Remembers the batches that it was given; partitions 0 and 1 lead to one broker, 2 and 3 to another one."""

    def __init__(self) -> None:
        self.given: list[tuple[int, Values, asyncio.Future[None]]] = []
        self.refuses: Exception | None = None
        self.listeners: list[Any] = []
        self.client = SimpleNamespace(cluster=self)

    def add_listener(self, listener: Any) -> None:
        self.listeners.append(listener)

    def leader_for_partition(self, place: TopicPartition) -> int:
        return int(place.partition) // 2

    async def partitions_for(self, _topic: str) -> set[int]:
        return set(range(PARTITIONS))

    def create_batch(self) -> BatchBuilder:
        return BatchBuilder(BATCH_BYTES, 0)

    async def send_batch(self, batch: BatchBuilder, _topic: str, *, partition: int) -> asyncio.Future[None]:
        if self.refuses is not None:
            raise self.refuses
        values = [record.value for record in DefaultRecordBatch(bytes(batch._build()))]
        self.given.append((partition, values, asyncio.get_running_loop().create_future()))
        return self.given[-1][2]

    @property
    def values(self) -> list[tuple[int, Values]]:
        return [(partition, values) for partition, values, _ in self.given]


async def lanes_of(producer: Producer) -> Lanes:
    lanes = Lanes(cast(AIOKafkaProducer, producer))
    await lanes.learn("topic")
    return lanes


def key_of(partition: int) -> bytes:
    return next(k for k in (b"%d" % n for n in range(1000)) if partition_of(k, PARTITIONS) == partition)


def put(lanes: Lanes, partition: int, value: bytes) -> Sent:
    return lanes.put("topic", key_of(partition), value, [])


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_what_comes_meanwhile_goes_together_and_in_order() -> None:
    producer = Producer()
    lanes = await lanes_of(producer)
    first = [put(lanes, 0, b"a"), put(lanes, 1, b"b"), put(lanes, 0, b"c")]
    await turns()
    assert producer.values == [(0, [b"a", b"c"]), (1, [b"b"])]
    later = [put(lanes, 1, b"d")]
    await turns()
    later.append(put(lanes, 1, b"e"))
    await turns()
    assert len(producer.given) == 2, "one group at a time"
    for _, _, delivered in list(producer.given):
        delivered.set_result(None)
    await asyncio.gather(*first)
    await turns()
    assert producer.values[2:] == [(1, [b"d", b"e"])]
    assert not any(sent.done() for sent in later)
    producer.given[2][2].set_result(None)
    await asyncio.gather(*later)


async def test_a_broker_that_is_silent_holds_up_no_other() -> None:
    producer = Producer()
    lanes = await lanes_of(producer)
    silent = put(lanes, 0, b"a")
    await turns()
    other = put(lanes, 2, b"b")
    await turns()
    assert producer.values == [(0, [b"a"]), (2, [b"b"])]
    producer.given[1][2].set_result(None)
    await other
    assert not silent.done()


async def test_a_batch_that_fails_concerns_its_own_senders() -> None:
    producer = Producer()
    lanes = await lanes_of(producer)
    lost, lost_too, safe = put(lanes, 0, b"a"), put(lanes, 0, b"b"), put(lanes, 1, b"c")
    await turns()
    producer.given[0][2].set_exception(KafkaError("refused"))
    producer.given[1][2].set_result(None)
    await safe
    for sent in (lost, lost_too):
        with pytest.raises(KafkaError, match="refused"):
            await sent


async def test_a_sender_that_is_gone_or_late() -> None:
    producer = Producer()
    lanes = await lanes_of(producer)
    gone, late, waiting = put(lanes, 0, b"a"), put(lanes, 0, b"b"), put(lanes, 0, b"c")
    await turns()
    gone.cancel()
    late.set_exception(TimeoutError())
    producer.given[0][2].set_result(None)
    await waiting
    with pytest.raises(TimeoutError):
        await late


async def test_more_than_a_batch_holds() -> None:
    producer = Producer()
    lanes = await lanes_of(producer)
    values = [b"%04d" % n * 100 for n in range(10)]
    large = bytes(3 * BATCH_BYTES)
    sent = [put(lanes, 0, value) for value in [*values, large]]
    await turns()
    assert len(producer.given) > 2
    assert [value for _, batch in producer.values for value in batch] == [*values, large]
    for _, _, delivered in producer.given:
        delivered.set_result(None)
    await asyncio.gather(*sent)


async def test_what_no_broker_takes() -> None:
    producer = Producer()
    lanes = await lanes_of(producer)
    with pytest.raises(MessageSizeTooLargeError):
        put(lanes, 0, bytes(MAX_RECORD_BYTES))
    await turns()
    assert producer.given == []


async def test_a_producer_that_is_given_up() -> None:
    producer = Producer()
    lanes = await lanes_of(producer)
    producer.refuses = ConnectionError("producer replaced")
    for _ in range(2):
        with pytest.raises(ConnectionError, match="replaced"):
            await put(lanes, 0, b"a")


async def test_after_a_failure_that_nobody_foresaw_the_lane_goes_on() -> None:
    producer = Producer()
    lanes = await lanes_of(producer)
    producer.refuses = AssertionError("Unrecognized partition")
    lost = put(lanes, 0, b"a")
    await turns()
    producer.refuses = None
    put(lanes, 0, b"b")
    await turns()
    assert producer.values == [(0, [b"b"])]
    assert not lost.done(), "its sender sees the deadline"


async def test_partitions_are_learnt_again_when_the_metadata_is_new() -> None:
    producer = Producer()
    lanes = await lanes_of(producer)
    assert lanes.knows("topic")
    producer.listeners[0](producer)
    assert not lanes.knows("topic")
