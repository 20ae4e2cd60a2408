"""Stores one batch: stage the facts, lock the books, merge, dead-letter what is bad, move the books - one transaction.

The fast path is a single attempt. When the database refuses the data, the attempt is repeated with savepoints,
halving until exactly the bad records stand alone; an outage is never taken for bad data.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Mapping
from operator import attrgetter
from typing import Any, Generic, TypeVar

from pipeline import books, metrics
from pipeline.batch import Batch, Dead, Partition, Place
from pipeline.deadletter import Outlet, publish_all
from pipeline.errors import PoisonError, WapipeError
from pipeline.halving import find_refused
from pipeline.inflight import Turn
from pipeline.postgres import Connection, Pool, transaction, translated

F = TypeVar("F")

_timestamp = attrgetter("timestamp")


class MisalignedError(WapipeError):
    """The batch does not start where the database stands. `stored`: the next offset to store, by partition."""

    def __init__(self, stored: dict[Partition, int]) -> None:
        super().__init__(f"the batch does not follow what is stored: {stored}")
        self.stored = stored


async def at_once() -> None:
    """The turn of a batch that is written alone."""


class Writer(Generic[F]):
    """Stores the batches of one consumer. Raises TransientError (try again), MisalignedError, or what is a bug.

    `books_name` names other progress rows than the consumer's own: a replay's.
    """

    def __init__(self, consumer: Any, pool: Pool, publisher: Outlet, *, books_name: str | None = None) -> None:
        self._consumer, self._pool, self._publisher = consumer, pool, publisher
        self._name: str = consumer.name
        self._books_name = books_name or self._name

    async def positions(self) -> dict[Partition, int]:
        """Where the database stands: next offset by partition. Raises TransientError."""
        async with translated():
            return await books.positions(self._pool, self._books_name)

    async def begin(self, begins: Mapping[Partition, int]) -> dict[Partition, int]:
        """As `positions`; a partition that the database does not know is opened there at the offset given."""
        async with translated():
            await books.begin(self._pool, self._books_name, begins)
        return await self.positions()

    async def pass_over(self, steps: Mapping[Partition, tuple[int, int]]) -> None:
        """Counts offsets [first, next) of each partition as a gap: the broker has nothing there (any more).

        Raises TransientError, or MisalignedError when the database stands elsewhere than at `first`.
        """
        async with transaction(self._pool) as connection:
            stored = await books.lock(connection, self._books_name, {p: first for p, (first, _) in steps.items()})
            elsewhere = {p: stored[p] for p, (first, _) in steps.items() if stored[p] != first}
            if elsewhere:
                raise MisalignedError(elsewhere)
            entries = {p: books.Entry(after, gap=after - first) for p, (first, after) in steps.items()}
            await books.advance(connection, self._books_name, entries)
        for entry in entries.values():
            metrics.RECORDS.labels(self._name, "gap").inc(entry.gap)

    async def store(self, batch: Batch[F], turn: Turn = at_once) -> dict[Partition, books.Entry]:
        """One batch, wholly or not at all; answers what it added to the books. `turn` is waited for when the batch is staged and
        nothing is locked yet; what it raises leaves the batch unstored."""
        started = time.perf_counter()
        try:
            entries = await self._attempt(batch, turn, isolate=batch.prepared is None and bool(batch.facts))
        except PoisonError:
            entries = await self._attempt(batch, turn, isolate=True)
        now = time.perf_counter()
        metrics.STAGE_SECONDS.labels(self._name, "write").observe(now - started)
        metrics.BATCH_SECONDS.labels(self._name).observe(now - batch.taken_at)
        self._count(batch, entries)
        return entries

    async def prepare(self, facts: list[F]) -> Any:
        """What `store` will write; None when there is nothing, or when some fact is bad. Raises TransientError."""
        if not facts:
            return None
        with contextlib.suppress(PoisonError), metrics.STAGE_SECONDS.labels(self._name, "prepare").time():
            return await self._consumer.prepare(facts)
        return None

    async def _attempt(self, batch: Batch[F], turn: Turn, *, isolate: bool) -> dict[Partition, books.Entry]:
        async with transaction(self._pool) as connection:
            if batch.prepared is not None and not isolate:
                await self._consumer.stage(connection, batch.prepared)
            await turn()
            stored = await books.lock(connection, self._books_name, {p: t.first for p, t in batch.tallies.items()})
            unstored = _unstored(batch, stored)
            if not unstored:
                return {}
            fresh, dead = list(range(len(batch.facts))), list(batch.dead)
            if len(unstored) < len(batch.tallies):  # a redelivered partition is in it
                fresh = [i for i, place in enumerate(batch.places) if _partition(place) in unstored]
                dead = [d for d in batch.dead if _partition(d.place) in unstored]
            if isolate:
                new, refused = await self._isolate(connection, batch, fresh)
                dead += refused
            else:
                prepared = batch.prepared
                if len(fresh) < len(batch.facts):
                    prepared = await self._consumer.prepare([batch.facts[i] for i in fresh])
                    await self._consumer.stage(connection, prepared)  # in place of what was staged
                new = Counter(await self._consumer.write(connection, prepared) if fresh else {})
            await publish_all(self._publisher, self._name, dead)
            entries = _entries(batch, unstored, new, dead)
            await books.advance(connection, self._books_name, entries)
        return entries

    async def _isolate(
        self, connection: Connection, batch: Batch[F], fresh: list[int]
    ) -> tuple[Counter[Partition], list[Dead]]:
        """Writes what fits; halves what does not until each bad record stands alone, with savepoints."""
        new: Counter[Partition] = Counter()

        async def attempt(chosen: list[int]) -> None:
            prepared = await self._consumer.prepare([batch.facts[fresh[i]] for i in chosen])
            async with translated(), connection.transaction():
                await self._consumer.stage(connection, prepared)
                new.update(await self._consumer.write(connection, prepared))

        refused = [
            Dead(batch.places[fresh[r.index]], batch.records[fresh[r.index]], r.error, len(fresh), r.halvings)
            for r in await find_refused(len(fresh), attempt)
        ]
        return new, refused

    def _count(self, batch: Batch[F], entries: dict[Partition, books.Entry]) -> None:
        for entry in entries.values():
            for outcome in metrics.OUTCOMES:
                metrics.RECORDS.labels(self._name, outcome).inc(getattr(entry, outcome))
            for event, count in entry.skipped_events.items():
                metrics.SKIPPED.labels(self._name, metrics.known(event, metrics.EVENTS)).inc(count)
        oldest = min(map(_timestamp, batch.records), default=None)
        if oldest is not None:
            metrics.RECORD_AGE_SECONDS.labels(self._name).set(max(0.0, time.time() - oldest / 1000))


def _partition(place: Place) -> Partition:
    return Partition(place.topic, place.partition)


def _unstored(batch: Batch[Any], stored: dict[Partition, int]) -> list[Partition]:
    """The partitions of the batch that are new to the database; one that is wholly stored already (redelivered) is left
    out. Raises MisalignedError."""
    unstored = [p for p, tally in batch.tallies.items() if tally.next > stored[p]]
    misaligned = {p: stored[p] for p in unstored if batch.tallies[p].first != stored[p]}
    if misaligned:
        raise MisalignedError(misaligned)
    return unstored


def _entries(
    batch: Batch[Any], unstored: list[Partition], new: Counter[Partition], dead: list[Dead]
) -> dict[Partition, books.Entry]:
    """What the batch adds to the books. Offsets without a record inside the batch are a gap as well."""
    buried = Counter(_partition(d.place) for d in dead)
    entries: dict[Partition, books.Entry] = {}
    for partition in unstored:
        tally = batch.tallies[partition]
        skipped = tally.skipped.total()
        entries[partition] = books.Entry(
            next_offset=tally.next,
            records=tally.records,
            written=new[partition],
            merged=tally.records - skipped - buried[partition] - new[partition],
            skipped=skipped,
            dead=buried[partition],
            gap=tally.next - tally.first - tally.records,
            skipped_events=dict(tally.skipped),
        )
    return entries
