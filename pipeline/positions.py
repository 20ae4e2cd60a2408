"""Where a consumer is in each partition: what it fetched, what is stored, what Kafka has been told. No policy, no loop.

The database is the truth (progress rows); these are its shadow in one process, forgotten at each assignment.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from pipeline import metrics
from pipeline.batch import Partition, Tally
from pipeline.broker import log_bounds
from pipeline.decode import Span
from pipeline.errors import FatalError

Spans = Mapping[TopicPartition, Span]
Begin = Callable[[Mapping[Partition, int]], Awaitable[Mapping[Partition, int]]]


class Positions:
    """Of one consumer. `prefix` stands before the broker's topic names and is absent from the database's."""

    def __init__(self, consumer: str, prefix: str) -> None:
        self._name, self._prefix = consumer, prefix
        self._stored: dict[TopicPartition, int] = {}  # next offset to store
        self._expected: dict[TopicPartition, int] = {}  # next offset to fetch
        self._uncommitted: dict[TopicPartition, int] = {}

    def partition(self, tp: TopicPartition) -> Partition:
        """The database's name of a partition."""
        return Partition(tp.topic.removeprefix(self._prefix), tp.partition)

    def on_broker(self, partition: Partition) -> TopicPartition:
        """The broker's name of a partition."""
        return TopicPartition(self._prefix + partition.topic, partition.partition)

    def next_offset(self, tp: TopicPartition) -> int | None:
        """The next offset to store; None for a partition that is not assigned."""
        return self._stored.get(tp)

    def forget(self) -> None:
        """A new assignment: nothing that was known holds any more."""
        self._stored.clear()
        self._expected.clear()
        self._uncommitted.clear()

    async def align(self, client: Any, begin: Begin) -> None:
        """Goes to where the database stands; a partition without a progress row gets one, and starts at its beginning.

        Raises FatalError when the database has more of a partition than the broker, TransientError, and
        IllegalStateError when the assignment changed meanwhile.
        """
        assigned = sorted(client.assignment())
        bounds = await log_bounds(client, assigned) if assigned else {}
        progress = await begin({self.partition(tp): first for tp, (first, _) in bounds.items()})
        for tp, (_, end) in bounds.items():
            position = progress[self.partition(tp)]
            if position > end:
                raise FatalError(
                    f"{tp.topic}/{tp.partition} ends at {end}, but its records up to {position} are stored already: the "
                    "topic was made anew, or the broker lost acknowledged records. See docs/operations.md, `Topic made anew`"
                )
            self._stored[tp] = self._expected[tp] = position
            client.seek(tp, position)

    def expected(self, tp: TopicPartition) -> int:
        """The next offset to fetch; -1 of a partition that is not ours."""
        return self._expected.get(tp, -1)

    def seek(self, client: Any) -> None:
        """Fetches again what is not in memory."""
        assigned: Iterable[TopicPartition] = client.assignment() if client is not None else ()
        for tp in assigned:
            if tp in self._expected:
                with contextlib.suppress(IllegalStateError):
                    client.seek(tp, self._expected[tp])

    def passed_over(self, tp: TopicPartition, offset: int) -> None:
        """The database counts everything before `offset` as a gap."""
        self._stored[tp] = self._expected[tp] = self._uncommitted[tp] = offset

    def fetched(self, spans: Spans) -> None:
        """These records are in memory."""
        for tp, span in spans.items():
            self._expected[tp] = span.last + 1

    def stored(self, tallies: Mapping[Partition, Tally]) -> None:
        """These records are in the database."""
        for partition, tally in tallies.items():
            tp = self.on_broker(partition)
            self._stored[tp] = self._uncommitted[tp] = tally.next

    def correct(self, at: Mapping[TopicPartition, int]) -> None:
        """The database stands elsewhere than this process thought."""
        self._stored.update(at)

    def rewind(self, client: Any) -> None:
        """Fetches again from what is stored."""
        self._expected.update(self._stored)
        self.seek(client)

    async def commit(self, client: Any) -> None:
        """Tells Kafka how far the database is. A refusal is normal after a rebalance; the progress row is the truth."""
        if not self._uncommitted or client is None:
            return
        offsets, self._uncommitted = self._uncommitted, {}
        result = "ok"
        try:
            with metrics.STAGE_SECONDS.labels(self._name, "commit").time():
                async with asyncio.timeout(5):
                    await client.commit(offsets)
        except (CommitFailedError, IllegalStateError):
            result = "refused"
        except (KafkaError, OSError, TimeoutError):
            result = "failed"
            self._uncommitted = offsets | self._uncommitted
        metrics.COMMITS.labels(self._name, result).inc()
