"""Whether WAHA's webhooks arrive: watches the topic that session events are filed under, from now on, outside any group."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from aiokafka import AIOKafkaConsumer, TopicPartition

from pipeline.broker import log_bounds, require_topics, topic_states
from pipeline.reader import open_reader
from pipeline.settings import KafkaSettings
from schemas.topics import HEADER_SESSION, SESSION


class Ear:
    """See `listening`."""

    def __init__(self, reader: AIOKafkaConsumer) -> None:
        self._reader = reader

    async def hear(self, sessions: set[str], patience_s: float) -> set[str]:
        """Those of the qualified `sessions` of which an event came; returns when all did, or after `patience_s`."""
        heard: set[str] = set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while sessions - heard:
                    for records in (await self._reader.getmany(timeout_ms=500)).values():
                        heard |= {_session(dict(record.headers)) for record in records}
        return heard & sessions


@contextlib.asynccontextmanager
async def listening(kafka: KafkaSettings) -> AsyncIterator[Ear]:
    """Hears what arrives from this moment on. Raises TransientError, ConfigError when there is no topic."""
    await require_topics(kafka, [SESSION])
    [state] = await topic_states(kafka, [SESSION])
    partitions = [TopicPartition(state.name, p) for p in range(state.partitions)]
    async with open_reader(kafka) as reader:
        reader.assign(partitions)
        for tp, (_, end) in (await log_bounds(reader, partitions)).items():
            reader.seek(tp, end)
        yield Ear(reader)


def _session(headers: dict[str, bytes]) -> str:
    return headers.get(HEADER_SESSION, b"").decode()
