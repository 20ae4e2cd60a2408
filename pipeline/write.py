"""Stores one batch: stage the facts, merge, lock the books, dead-letter what is bad, move the books - one transaction.

The fast path is a single attempt. It locks the books last, so that a batch is merged while the one before, often of the same
partitions, is committed. What does not fit is done again with care: books locked first, savepoints, and when the database
refuses the data, halving until exactly the bad records stand alone; an outage is never taken for bad data.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from pipeline import books, metrics
from pipeline.batch import Batch, Dead, Partition, Place
from pipeline.deadletter import Outlet, publish_all
from pipeline.errors import PoisonError, TransientError, WapipeError
from pipeline.halving import find_refused
from pipeline.inflight import Turn
from pipeline.postgres import Connection, Pool, transaction, translated

F = TypeVar("F")
_STAGED_S = 4.0  # half of what the server gives a transaction that waits, see pipeline.postgres


class MisalignedError(WapipeError):
    """The batch does not start where the database stands. `stored`: the next offset to store, by partition."""

    def __init__(self, stored: dict[Partition, int]) -> None:
        super().__init__(f"the batch does not follow what is stored: {stored}")
        self.stored = stored


class _UnexpectedError(WapipeError):
    """Something of the batch is stored already, or something before it is not."""


class _LateError(WapipeError):
    """The batch's turn does not come soon, and the server ends transactions that wait."""


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

    async def store(self, batch: Batch[F], turn: Turn | None = None) -> dict[Partition, books.Entry]:
        """One batch, wholly or not at all; answers what it added to the books. Its turn is waited for when it is staged and
        nothing is locked yet; what that raises leaves the batch unstored. It is passed on before the commit."""
        started, turn = time.perf_counter(), turn or Turn()
        entries: dict[Partition, books.Entry] | None = None
        try:
            if batch.prepared is not None or not batch.facts:
                with contextlib.suppress(PoisonError, _UnexpectedError):
                    entries = await self._straight(batch, turn)
            if entries is None:
                entries = await self._careful(batch, turn)
        except TransientError:
            turn.take_back()
            raise
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

    async def _straight(self, batch: Batch[F], turn: Turn) -> dict[Partition, books.Entry]:
        """Everything at once. Raises PoisonError or _UnexpectedError, and then nothing of it is there."""
        while True:
            with contextlib.suppress(_LateError):
                return await self._attempt(batch, turn)
            await turn.come()

    async def _attempt(self, batch: Batch[F], turn: Turn) -> dict[Partition, books.Entry]:
        async with transaction(self._pool) as connection:
            if batch.facts:
                await self._consumer.stage(connection, batch.prepared)
            try:
                async with asyncio.timeout(_STAGED_S):
                    await turn.come()
            except TimeoutError:
                raise _LateError from None
            new = Counter(await self._consumer.write(connection, batch.prepared) if batch.facts else {})
            stored = await self._lock(connection, batch)
            if any(stored[p] != tally.first for p, tally in batch.tallies.items()):
                raise _UnexpectedError
            entries = await self._book(connection, batch, list(batch.tallies), new, batch.dead)
            turn.pass_on()
        return entries

    async def _careful(self, batch: Batch[F], turn: Turn) -> dict[Partition, books.Entry]:
        """Only what is not stored yet, and what is bad set aside. Raises MisalignedError."""
        await turn.come()
        async with transaction(self._pool) as connection:
            unstored = _unstored(batch, await self._lock(connection, batch))
            if not unstored:
                return {}
            fresh = [i for i, place in enumerate(batch.places) if _partition(place) in unstored]
            new, refused = await self._isolate(connection, batch, fresh)
            dead = [d for d in batch.dead if _partition(d.place) in unstored] + refused
            return await self._book(connection, batch, unstored, new, dead)

    async def _lock(self, connection: Connection, batch: Batch[F]) -> dict[Partition, int]:
        return await books.lock(connection, self._books_name, {p: t.first for p, t in batch.tallies.items()})

    async def _book(
        self, connection: Connection, batch: Batch[F], unstored: list[Partition], new: Counter[Partition],
        dead: list[Dead],
    ) -> dict[Partition, books.Entry]:  # fmt: skip
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
        oldest_ms = min((t.first_ms for t in batch.tallies.values() if t.first_ms), default=None)
        if oldest_ms is not None:
            metrics.RECORD_AGE_SECONDS.labels(self._name).set(max(0.0, time.time() - oldest_ms / 1000))


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
