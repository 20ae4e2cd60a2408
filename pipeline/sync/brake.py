"""Holds fetching back: at the operator's word, at his rate, and while consumers or the database have enough to do already."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict

from aiokafka import TopicPartition

from pipeline import metrics
from pipeline.broker import log_bounds, topic_states
from pipeline.errors import TransientError
from pipeline.postgres import Pool, translated
from pipeline.reader import open_reader
from pipeline.replay.pace import Pace
from pipeline.replay.spec import is_replay
from pipeline.sections_waha import SyncSettings
from pipeline.settings import KafkaSettings
from pipeline.sync.state import SyncState
from schemas.topics import BACKFILL, MESSAGE
from sql import queries

log = logging.getLogger("wapipe.sync")

_EVERY_S = 5.0


class Brake:
    """Of one process. `reason` is None while fetching may go on, else a label of metrics.SYNC_HELD."""

    def __init__(self, state: SyncState, pool: Pool, kafka: KafkaSettings, settings: SyncSettings) -> None:
        self._state, self._pool, self._kafka, self._settings = state, pool, kafka, settings
        self.reason: str | None = None
        self._free = asyncio.Event()
        self._free.set()
        self._pace: Pace | None = None
        self._rate_per_s: float | None = None

    async def passed(self, messages: int) -> None:
        """Returns when as many messages may be published, and the next page be fetched."""
        await self._free.wait()
        if self._pace is not None and messages:
            await asyncio.sleep(self._pace.delay_s(messages))

    async def watch(self) -> None:
        """Looks again and again. Never returns."""
        while True:
            await self.look()
            await asyncio.sleep(_EVERY_S)

    async def look(self) -> None:
        """Once."""
        try:
            control = await self._state.control()
            self._set_rate(control.rate_per_s)
            reason = "stopped" if control.stopped else await self._behind()
        except TransientError as exc:
            reason = exc.dependency
        if reason != self.reason:
            log.info("sync.held" if reason else "sync.goes_on", extra={"reason": reason})
        self.reason = reason
        for each in metrics.SYNC_HELD_REASONS:
            metrics.SYNC_HELD.labels(each).set(each == reason)
        if reason is None:
            self._free.set()
        else:
            self._free.clear()

    def _set_rate(self, rate_per_s: float | None) -> None:
        if rate_per_s != self._rate_per_s:
            self._rate_per_s = rate_per_s
            self._pace = Pace(rate_per_s) if rate_per_s else None

    async def _behind(self) -> str | None:
        """Whether a consumer is too far behind on the live topic, or on our own."""
        lag = await read_lag(self._pool, self._kafka)
        if lag[MESSAGE.name] > self._settings.max_live_lag_records:
            return "live_lag"
        return "backfill_lag" if lag[BACKFILL.name] > self._settings.max_lag_records else None


async def read_lag(pool: Pool, kafka: KafkaSettings) -> dict[str, int]:
    """By topic: the records that the consumer furthest behind has not stored yet. Raises TransientError."""
    states = await topic_states(kafka, [MESSAGE, BACKFILL])
    topics = {TopicPartition(s.name, p): s.topic.name for s in states for p in range(s.partitions)}
    async with open_reader(kafka) as reader:
        reader.assign(list(topics))
        bounds = {(topics[tp], tp.partition): pair for tp, pair in (await log_bounds(reader, list(topics))).items()}
    async with translated():
        rows = await pool.fetch(queries("sync")["positions"], [MESSAGE.name, BACKFILL.name])
    at = {(r["consumer"], r["topic"], r["partition"]): r["next_offset"] for r in rows if not is_replay(r["consumer"])}
    lag: dict[str, int] = {MESSAGE.name: 0, BACKFILL.name: 0}
    by_consumer: dict[tuple[str, str], int] = defaultdict(int)
    for consumer, topic in {(c, t) for c, t, _ in at}:
        for (name, partition), (begin, end) in bounds.items():
            if name == topic:
                by_consumer[consumer, topic] += max(0, end - max(begin, at.get((consumer, topic, partition), begin)))
    for (_, topic), records in by_consumer.items():
        lag[topic] = max(lag[topic], records)
    return lag
