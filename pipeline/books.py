"""The books: progress rows that move in the transaction of the data, and the sums that must come out even."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.batch import Partition
from pipeline.postgres import Connection, Pool
from sql import queries


@dataclass(slots=True)
class Entry:
    """What one batch adds to one partition's row. records = written + merged + skipped + dead."""

    next_offset: int
    records: int = 0
    written: int = 0
    merged: int = 0
    skipped: int = 0
    dead: int = 0
    gap: int = 0
    skipped_events: dict[str, int] = field(default_factory=dict)


async def lock(connection: Connection, consumer: str, firsts: Mapping[Partition, int]) -> dict[Partition, int]:
    """Locks the rows of these partitions until the transaction ends; answers the next offset of each.

    A partition seen for the first time starts at the offset given for it.
    """
    rows = await connection.fetch(
        queries("books")["lock"],
        consumer, [p.topic for p in firsts], [p.partition for p in firsts], list(firsts.values()),
    )  # fmt: skip
    return {Partition(r["topic"], r["partition"]): r["next_offset"] for r in rows}


async def begin(pool: Pool, consumer: str, begins: Mapping[Partition, int]) -> None:
    """Opens the books of these partitions where they are not open yet, at the offsets given: from now on they have a lag."""
    await pool.execute(
        queries("books")["begin"],
        consumer, [p.topic for p in begins], [p.partition for p in begins], list(begins.values()),
    )  # fmt: skip


async def positions(pool: Pool, consumer: str) -> dict[Partition, int]:
    """The next offset of every partition that `consumer` was ever given."""
    rows = await pool.fetch(queries("books")["positions"], consumer)
    return {Partition(r["topic"], r["partition"]): r["next_offset"] for r in rows}


async def advance(connection: Connection, consumer: str, entries: Mapping[Partition, Entry]) -> None:
    """Adds a batch's entries to the rows locked before."""
    columns = ("next_offset", "records", "written", "merged", "skipped", "dead", "gap")
    await connection.execute(
        queries("books")["advance"],
        consumer, [p.topic for p in entries], [p.partition for p in entries],
        *[[getattr(e, c) for e in entries.values()] for c in columns],
    )  # fmt: skip
    skipped = [(p.topic, name, n) for p, e in entries.items() for name, n in e.skipped_events.items()]
    if skipped:
        by_key: dict[tuple[str, str], int] = {}
        for topic, name, n in skipped:
            by_key[topic, name] = by_key.get((topic, name), 0) + n
        await connection.execute(
            queries("books")["skip"],
            consumer, [k[0] for k in by_key], [k[1] for k in by_key], list(by_key.values()),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Account:
    """One partition of one consumer as the database has it."""

    consumer: str
    topic: str
    partition: int
    first_offset: int
    next_offset: int
    records: int
    written: int
    merged: int
    skipped: int
    dead: int
    gap: int

    @property
    def difference(self) -> int:
        """0 when every offset passed is accounted for."""
        passed = self.next_offset - self.first_offset
        outcome = self.written + self.merged + self.skipped + self.dead
        return abs(passed - self.records - self.gap) + abs(self.records - outcome)


@dataclass(frozen=True, slots=True)
class Skipped:
    """Records of one event name that a consumer does not store."""

    consumer: str
    event: str
    records: int


async def accounts(source: Pool | Connection, consumer: str | None = None) -> list[Account]:
    """The rows of progress: of one consumer, or of all."""
    return [Account(**dict(r)) for r in await source.fetch(queries("books")["progress"], consumer)]


async def snapshot(pool: Pool, consumer: str | None = None) -> tuple[list[Account], list[Skipped]]:
    """Both sides of the database's books at one moment: a batch that is stored meanwhile is in both or in neither."""
    async with pool.acquire(timeout=10) as found, found.transaction(isolation="repeatable_read", readonly=True):
        connection: Any = found  # the pool's proxy behaves as the connection it wraps
        skipped = [Skipped(**dict(r)) for r in await connection.fetch(queries("books")["skipped"], consumer)]
        return await accounts(connection, consumer), skipped


def difference(found: Iterable[Account], skipped: Iterable[Skipped]) -> int:
    """Records of one consumer that are unaccounted for: 0 when all is well."""
    found = list(found)
    by_name = sum(s.records for s in skipped)
    return sum(a.difference for a in found) + abs(sum(a.skipped for a in found) - by_name)
