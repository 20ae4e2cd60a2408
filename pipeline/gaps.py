"""Offsets that the broker does not have: deleted by retention, transaction markers, compacted. Proved, booked, and said
loudly when unread records are lost.

aiokafka jumps over them with a line in its log at most, and over records too when it stumbles. So a step is believed
only when it is taken twice, the second time after the consumer was sent back for what lies between.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from pipeline import metrics
from pipeline.broker import log_bounds
from pipeline.positions import Positions, Spans
from pipeline.write import Writer

log = logging.getLogger("wapipe.gaps")
_LOOK_EVERY_S = 2.0
_POSITION_S = 0.1


class Step(NamedTuple):
    """The broker goes on at `found` where `expected` should be next (-1: the partition is not ours)."""

    expected: int
    found: int


Steps = Mapping[TopicPartition, Step]


class Gaps:
    """Of one consumer process. Used by its fetching task alone."""

    def __init__(
        self, consumer: str, positions: Positions, writer: Writer[Any], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._name, self._positions, self._writer, self._clock = consumer, positions, writer, clock
        self._doubted: dict[TopicPartition, Step] = {}
        self._looked_at = clock()

    async def find(self, client: Any, spans: Spans) -> dict[TopicPartition, Step]:
        """Where the broker does not go on as expected: in what was fetched, and every two seconds in the other partitions,
        where it may have passed over offsets without giving any record."""
        found = {tp: span.first for tp, span in spans.items()}
        if self._clock() - self._looked_at >= _LOOK_EVERY_S:
            self._looked_at = self._clock()
            for tp in client.assignment() - spans.keys():
                with contextlib.suppress(KafkaError, TimeoutError):
                    async with asyncio.timeout(_POSITION_S):  # it has none while it asks for the log's begin
                        found[tp] = await client.position(tp)
        expected = {tp: self._positions.expected(tp) for tp in found}
        return {tp: Step(expected[tp], at) for tp, at in found.items() if at != expected[tp]}

    def proven(self, client: Any, steps: Steps) -> bool:
        """True when these steps were taken again after the consumer had been sent back. Otherwise it is sent back now, and
        what was fetched must be dropped."""
        if all(step.expected >= 0 and self._doubted.get(tp) == step for tp, step in steps.items()):
            for tp in steps:
                del self._doubted[tp]
            return True
        self._doubted.update(steps)
        self._positions.seek(client)
        return False

    def forget(self) -> None:
        """Nothing is proven by what was seen so far: a new assignment, or an error of the fetching."""
        self._doubted.clear()

    async def book(self, client: Any, steps: Steps) -> None:
        """Counts what lies between as a gap; nothing of these partitions may be in flight.

        Raises TransientError, or MisalignedError when the database stands elsewhere.
        """
        bounds = await log_bounds(client, list(steps))
        await self._writer.pass_over({self._positions.partition(tp): (s.expected, s.found) for tp, s in steps.items()})
        for tp, (expected, found) in steps.items():
            self._positions.passed_over(tp, found)
            lost = min(bounds[tp][0], found) - expected
            if lost > 0:
                metrics.LOST.labels(self._name).inc(lost)
                where = {"topic": tp.topic, "partition": tp.partition, "from_offset": expected, "records": lost}
                log.error("offsets.lost", extra={"consumer": self._name, **where})
