"""Records on their way to the broker: while one group of batches is under way, what comes meanwhile gathers in the next.

pipeline.broker's publisher puts them here one by one. aiokafka's `send` costs each record a walk through its coroutines,
a future made the slow way and two looks at the metadata; here a batch pays that once. Order within a partition is that
of `put`.
"""

from __future__ import annotations

import asyncio
import copy
from dataclasses import dataclass, field
from zlib import crc32

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from aiokafka.producer.message_accumulator import BatchBuilder

from schemas.topics import MAX_RECORD_BYTES

# Turns of the event loop between two groups: whoever was just answered may be back with the next record, and a request
# of sixty records costs broker and producer little more than one of thirty. Without load a turn takes microseconds.
_TURNS_BETWEEN = 3
_RECORD_BYTES = 36  # of a record beside its contents, at most; and of a header
_HEADER_BYTES = 10

Headers = list[tuple[str, bytes]]  # pipeline.broker's
Sent = asyncio.Future[None]  # done when the broker has the record, or failed with KafkaError or OSError
Place = tuple[str, int]  # topic (full name) and partition


@dataclass(slots=True, eq=False)
class _Batch:
    place: Place
    builder: BatchBuilder
    waiting: list[Sent] = field(default_factory=list)

    def append(self, sent: Sent, key: bytes, value: bytes, headers: Headers) -> bool:
        """False when it is full; an empty one takes a record of any size."""
        if self.builder.append(timestamp=None, key=key, value=value, headers=headers) is None:
            return False
        self.waiting.append(sent)
        return True

    def settle(self, exc: Exception | None) -> None:
        for sent in self.waiting:
            if sent.done():  # late, or its sender is gone
                continue
            if exc is None:
                sent.set_result(None)
            else:
                sent.set_exception(copy.copy(exc))  # of its own: each raise adds to a traceback


@dataclass(slots=True, eq=False)
class _Lane:
    """To one broker: the batches that gather, and what sends them."""

    batches: list[_Batch] = field(default_factory=list)
    task: asyncio.Task[None] | None = None


class Lanes:
    """All lanes of one started producer. What they hold fails when that is given up."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self._producer, self._loop = producer, asyncio.get_running_loop()
        self._partitions: dict[str, int] = {}
        self._open: dict[Place, _Batch] = {}  # the one of a partition that takes records
        self._lanes: dict[int | None, _Lane] = {}
        producer.client.cluster.add_listener(lambda _cluster: self._partitions.clear())

    def knows(self, topic: str) -> bool:
        """False when `learn` must come before `put`: at first, and after each look at the broker's metadata."""
        return topic in self._partitions

    async def learn(self, topic: str) -> None:
        """Waits for as long as the broker does not tell of the topic. Raises KafkaError."""
        self._partitions[topic] = len(await self._producer.partitions_for(topic))

    def put(self, topic: str, key: bytes, value: bytes, headers: Headers) -> Sent:
        """Takes a record of a known topic. Raises MessageSizeTooLargeError."""
        if _size(key, value, headers) > MAX_RECORD_BYTES:
            raise MessageSizeTooLargeError(f"a record of {len(value)} bytes")
        place = topic, partition_of(key, self._partitions[topic])
        sent: Sent = self._loop.create_future()
        batch = self._open.get(place)
        if batch is None or not batch.append(sent, key, value, headers):
            self._begin(place).append(sent, key, value, headers)
        return sent

    def _begin(self, place: Place) -> _Batch:
        batch = self._open[place] = _Batch(place, self._producer.create_batch())
        leader = self._producer.client.cluster.leader_for_partition(TopicPartition(*place))
        lane = self._lanes.setdefault(leader, _Lane())
        lane.batches.append(batch)
        if lane.task is None:
            lane.task = self._loop.create_task(self._run(lane))  # after this turn, with all that comes in it
        return batch

    async def _run(self, lane: _Lane) -> None:
        try:
            while lane.batches:
                await self._send(self._close(lane))
                for _ in range(_TURNS_BETWEEN):
                    await asyncio.sleep(0)
        finally:  # of a lane that failed the senders see their deadlines
            self._close(lane)
            lane.task = None

    def _close(self, lane: _Lane) -> list[_Batch]:
        """What has gathered, which takes no more."""
        group, lane.batches = lane.batches, []
        for batch in group:
            batch.builder.close()
            if self._open.get(batch.place) is batch:
                del self._open[batch.place]
        return group

    async def _send(self, group: list[_Batch]) -> None:
        under_way: list[tuple[_Batch, asyncio.Future[object]]] = []
        for batch in group:
            try:
                under_way.append((batch, await self._hand_over(batch)))
            except (KafkaError, OSError) as exc:
                batch.settle(exc)
        for batch, delivered in under_way:
            try:
                await delivered
            except (KafkaError, OSError) as exc:
                batch.settle(exc)
            else:
                batch.settle(None)

    async def _hand_over(self, batch: _Batch) -> asyncio.Future[object]:
        topic, partition = batch.place
        delivered: asyncio.Future[object] = await self._producer.send_batch(batch.builder, topic, partition=partition)
        return delivered


def partition_of(key: bytes, partitions: int) -> int:
    """By the key's CRC-32: aiokafka's murmur2 is pure Python and costs more than the signature check; nobody else has to
    agree, since no rule depends on which partition a key is in."""
    return crc32(key) % partitions


def _size(key: bytes, value: bytes, headers: Headers) -> int:
    size = _RECORD_BYTES + len(key) + len(value)
    for name, content in headers:
        size += _HEADER_BYTES + len(name) + len(content)
    return size
