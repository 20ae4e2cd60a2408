"""Reads a stretch of a topic outside any consumer group: for tools and the books, never for consumers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from pipeline.broker import client_options, log_bounds, topic_states, translated
from pipeline.errors import TransientError
from pipeline.settings import KafkaSettings
from schemas.topics import Topic

Spans = Mapping[int, tuple[int, int]]  # by partition: first offset, and the one after the last

_SILENCE_S = 30.0  # without a single record although there are some: the broker is away
_FETCH_BYTES = 8 * 1024 * 1024  # one record may be larger; then it comes alone


@contextlib.asynccontextmanager
async def open_reader(kafka: KafkaSettings) -> AsyncIterator[AIOKafkaConsumer]:
    """A started consumer without a group. Raises TransientError when the broker is away."""
    consumer = AIOKafkaConsumer(
        **client_options(kafka), enable_auto_commit=False, auto_offset_reset="earliest",
        fetch_max_bytes=_FETCH_BYTES, max_partition_fetch_bytes=_FETCH_BYTES,
    )  # fmt: skip
    async with translated():
        try:
            await consumer.start()
            yield consumer
        finally:
            await consumer.stop()


async def read_bounds(kafka: KafkaSettings, topic: Topic) -> dict[int, tuple[int, int]]:
    """Begin and end of each partition; empty when there is no such topic. Raises TransientError."""
    [state] = await topic_states(kafka, [topic])
    partitions = [TopicPartition(state.name, p) for p in range(state.partitions)]
    if not partitions:
        return {}
    async with open_reader(kafka) as reader:
        reader.assign(partitions)
        return {tp.partition: pair for tp, pair in (await log_bounds(reader, partitions)).items()}


async def read_records(kafka: KafkaSettings, topic: Topic, spans: Spans) -> AsyncGenerator[list[Any]]:
    """The records that the topic still has within `spans`, some at a time, each partition in order.

    Raises TransientError when the broker is away or stays silent.
    """
    ends = {TopicPartition(kafka.topic_prefix + topic.name, p): end for p, (begin, end) in spans.items() if begin < end}
    if not ends:
        return
    loop = asyncio.get_running_loop()
    async with open_reader(kafka) as reader:
        reader.assign(list(ends))
        for tp in ends:
            reader.seek(tp, spans[tp.partition][0])
        heard_at = loop.time()
        while ends:
            fetched: dict[TopicPartition, list[Any]] = await reader.getmany(*ends, timeout_ms=500)
            for tp, records in fetched.items():
                inside = [r for r in records if r.offset < ends[tp]]
                if inside:
                    yield inside
                heard_at = loop.time()
            # The position, not the last record: retention may have taken what the span ended with.
            for tp in [tp for tp in ends if await reader.position(tp) >= ends[tp]]:
                reader.pause(tp)
                del ends[tp]
            if loop.time() > heard_at + _SILENCE_S:
                raise TransientError("kafka", f"nothing came from {topic.name} for {_SILENCE_S:.0f} s")
