"""Holds fetching back: at the operator's word, at his rate, and while consumers or the database have enough to do already."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable

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

Bounds = dict[tuple[str, int], tuple[int, int]]  # topic, partition -> begin and end
Ends = Callable[[], Awaitable[Bounds]]

_EVERY_S = 1.0
_LOOKS = 60  # over one connection: partitions that were added are seen with the next one
_FEW_RECORDS = 200  # as few before a consumer say nothing: they may have come a moment ago
_SMOOTHING = 0.3  # what the last look says of the rate, against all before it


class Brake:
    """Of one process. `reason` is None while fetching may go on, else a label of metrics.SYNC_HELD."""

    def __init__(
        self, state: SyncState, pool: Pool, kafka: KafkaSettings, settings: SyncSettings, *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._state, self._pool, self._kafka, self._settings = state, pool, kafka, settings
        self.reason: str | None = None
        self._free = asyncio.Event()
        self._free.set()
        self._pace: Pace | None = None
        self._rate_per_s: float | None = None
        self._live = LiveRate(clock)

    async def passed(self, messages: int) -> None:
        """Returns when as many messages may be published, and the next page be fetched."""
        await self._free.wait()
        if self._pace is not None and messages:
            await asyncio.sleep(self._pace.delay_s(messages))

    async def watch(self) -> None:
        """Looks again and again. Never returns."""
        while True:
            try:
                async with open_ends(self._kafka) as ends:
                    for _ in range(_LOOKS):
                        await self.look(ends)
                        await asyncio.sleep(_EVERY_S)
            except TransientError as exc:
                self._hold(exc.dependency)
                await asyncio.sleep(_EVERY_S)

    async def look(self, ends: Ends) -> None:
        """Once. Raises TransientError."""
        control = await self._state.control()
        self._set_rate(control.rate_per_s)
        self._hold("stopped" if control.stopped else await self._behind(ends))

    def _hold(self, reason: str | None) -> None:
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

    async def _behind(self, ends: Ends) -> str | None:
        """Whether a consumer is too far behind on the live topic, or on our own."""
        bounds = await ends()
        self._live.ends_at(sum(end for (name, _), (_, end) in bounds.items() if name == MESSAGE.name))
        lag = await read_lag(self._pool, bounds)
        most = self._live.most_records(self._settings.max_live_lag_s)
        if lag[MESSAGE.name] > min(self._settings.max_live_lag_records, most):
            return "live_lag"
        return "backfill_lag" if lag[BACKFILL.name] > self._settings.max_lag_records else None


class LiveRate:
    """How many live records come in a second, from the ends of their partitions."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: tuple[float, int] | None = None
        self.per_s = 0.0

    def ends_at(self, records: int) -> None:
        """The sum of the ends, now."""
        now = self._clock()
        if self._seen is not None and now > self._seen[0]:
            latest = max(0, records - self._seen[1]) / (now - self._seen[0])
            self.per_s += _SMOOTHING * (latest - self.per_s)
        self._seen = (now, records)

    def most_records(self, lag_s: float) -> float:
        """That may wait before a consumer which is so far behind."""
        return max(_FEW_RECORDS, self.per_s * lag_s)


@contextlib.asynccontextmanager
async def open_ends(kafka: KafkaSettings) -> AsyncIterator[Ends]:
    """Answers the bounds of the live topic's and our own partitions, over one connection. Raises TransientError."""
    states = await topic_states(kafka, [MESSAGE, BACKFILL])
    topics = {TopicPartition(s.name, p): s.topic.name for s in states for p in range(s.partitions)}
    async with open_reader(kafka) as reader:
        reader.assign(list(topics))  # so that their offsets are asked for together
        reader.pause(*topics)  # and nothing of them is read

        async def ends() -> Bounds:
            return {(topics[tp], tp.partition): pair for tp, pair in (await log_bounds(reader, list(topics))).items()}

        yield ends


async def read_lag(pool: Pool, bounds: Bounds) -> dict[str, int]:
    """By topic: the records that the consumer furthest behind has not stored yet. Raises TransientError."""
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
