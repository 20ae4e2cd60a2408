"""How far a consumer is behind, in records, in seconds and against retention; the numbers behind three metrics.

Nothing is read for it but the logs' ends, every two seconds. When the oldest unread record arrived is known from its own
timestamp while it is in memory (fetched, not stored); while it is still at the broker, from the first look at which
the log reached beyond it, which is right to the two seconds between two looks. A record that was there before the first
look, and is not fetched yet, is taken to be as old as the newest fetched one before it.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from aiokafka import TopicPartition

from pipeline import metrics
from pipeline.batch import Partition
from pipeline.broker import log_bounds, read_retention_s
from pipeline.decode import Span
from pipeline.errors import TransientError
from pipeline.positions import Positions
from pipeline.settings import KafkaSettings
from schemas.topics import Topic

_MAX_LOOKS = 1000  # of one partition; then every second one is forgotten: a week behind is known to 20 minutes
_RETENTION_EVERY_S = 300.0
_RETENTION_AGAIN_S = 10.0  # after a failure


@dataclass(slots=True)
class Arrivals:
    """When the records of one partition arrived. Times are seconds since the epoch."""

    _fetched: list[tuple[int, float]] = field(default_factory=list)  # offset and time of each batch's first record
    _looks: list[tuple[int, float]] = field(default_factory=list)  # log end and when it was seen; only when it grew
    _apart_s: float = 0.0  # between two looks that are kept

    def fetched(self, offset: int, at_s: float) -> None:
        """The record at `offset` is in memory; it is the first of its batch. A second fetch replaces the first."""
        while self._fetched and self._fetched[-1][0] >= offset:
            self._fetched.pop()
        self._fetched.append((offset, at_s))

    def seen(self, end: int, at_s: float, position: int) -> None:
        """The log ended at `end`; what is below `position` is stored."""
        looks = self._looks
        if not looks or end > looks[-1][0]:
            if len(looks) > 1 and at_s - looks[-2][1] < self._apart_s:
                looks.pop()
            looks.append((end, at_s))
        while len(looks) > 1 and looks[1][0] <= position:
            del looks[0]
        while len(self._fetched) > 1 and self._fetched[1][0] <= position:
            del self._fetched[0]
        if len(looks) == 1:
            self._apart_s = 0.0
        if len(looks) > _MAX_LOOKS:
            del looks[1:-1:2]
            self._apart_s = (looks[-1][1] - looks[0][1]) / len(looks)

    @property
    def end(self) -> int:
        """Where the log ended at the last look."""
        return self._looks[-1][0] if self._looks else 0

    def arrived_at(self, position: int) -> float | None:
        """When the first record at `position` or after it arrived; None when there was none at the last look."""
        before: float | None = None
        for offset, at_s in self._fetched:
            if offset >= position:
                return at_s
            before = at_s
        for number, (end, at_s) in enumerate(self._looks):
            if end > position:
                return at_s if number or before is None else before
        return None


class LagMeter:
    """Of one consumer process: measures, and owns the gauges of the partitions that are assigned to it."""

    def __init__(
        self, consumer: str, topics: Sequence[Topic], kafka: KafkaSettings, positions: Positions,
        *, clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._name, self._kafka, self._positions, self._clock = consumer, kafka, positions, clock
        self._arrivals: dict[TopicPartition, Arrivals] = {}
        self._shown: dict[TopicPartition, Partition] = {}
        # Until the broker has been asked, and where it may not be: what `topics apply` asks for.
        self._retention_s = {kafka.topic_prefix + t.name: t.retention_ms / 1000 for t in topics}
        self._ask_again_at = -math.inf

    def fetched(self, spans: Mapping[TopicPartition, Span]) -> None:
        """A batch is in memory."""
        for tp, span in spans.items():
            if span.timestamp_ms > 0:
                self._of(tp).fetched(span.first, span.timestamp_ms / 1000)

    def forget(self) -> None:
        """A new assignment: other processes show what this one showed."""
        self._arrivals.clear()
        for partition in self._shown.values():
            for gauge in (metrics.LAG_RECORDS, metrics.LAG_SECONDS, metrics.RETENTION_LEFT_SECONDS):
                gauge.remove(self._name, partition.topic, str(partition.partition))
        self._shown.clear()

    async def measure(self, client: Any) -> int:
        """Records of the assigned partitions that are not stored yet. Raises TransientError."""
        assigned = list(client.assignment())
        bounds = await log_bounds(client, assigned) if assigned else {}
        total = 0
        for tp, (_, end) in bounds.items():
            position = self._positions.next_offset(tp)
            if position is None:  # taken away meanwhile
                continue
            self._of(tp).seen(end, self._clock(), position)
            self._show(tp)
            total += max(0, end - position)
        await self._read_retention()
        return total

    def _of(self, tp: TopicPartition) -> Arrivals:
        return self._arrivals.setdefault(tp, Arrivals())

    def _show(self, tp: TopicPartition) -> None:
        """The gauges are computed when they are scraped, so they go on growing while nothing can be measured."""
        if tp in self._shown:
            return
        partition = self._shown[tp] = self._positions.partition(tp)
        labels = (self._name, partition.topic, str(partition.partition))
        metrics.LAG_RECORDS.labels(*labels).set_function(partial(self._behind, tp))
        metrics.LAG_SECONDS.labels(*labels).set_function(partial(self._age_s, tp))
        metrics.RETENTION_LEFT_SECONDS.labels(*labels).set_function(partial(self._left_s, tp))

    def _behind(self, tp: TopicPartition) -> float:
        return max(0, self._of(tp).end - (self._positions.next_offset(tp) or 0))

    def _age_s(self, tp: TopicPartition) -> float:
        arrived_at = self._of(tp).arrived_at(self._positions.next_offset(tp) or 0)
        return 0.0 if arrived_at is None else max(0.0, self._clock() - arrived_at)

    def _left_s(self, tp: TopicPartition) -> float:
        return self._retention_s[tp.topic] - self._age_s(tp)

    async def _read_retention(self) -> None:
        """What the broker really keeps; an operator may have changed it. Asked for again every five minutes."""
        if time.monotonic() < self._ask_again_at:
            return
        self._ask_again_at = time.monotonic() + _RETENTION_AGAIN_S
        with contextlib.suppress(TransientError, TimeoutError):
            async with asyncio.timeout(2):
                self._retention_s |= await read_retention_s(self._kafka, list(self._retention_s))
            self._ask_again_at = time.monotonic() + _RETENTION_EVERY_S
