"""Facts into tables: ids looked up, rows merged among themselves, then staged and merged table by table in one order.

Which facts go into which tables, and how a fact becomes a row, stands in consumers. Two merges are made here from a
table's description, because most tables have one of them: a register keeps the greatest row of each key, a set keeps
every key. Others bring statements of their own.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Literal

from msgspec import Struct

from pipeline import metrics
from pipeline.batch import Partition, Place
from pipeline.dictionary import Ids
from pipeline.postgres import Connection, Pool, copy_rows
from sql import SCHEMA

Row = tuple[Any, ...]
Key = tuple[Any, ...]
_SLICE = 50  # facts between two looks at the event loop
UNCOUNTED = -1  # origin of a row that is not what its record is counted by


@dataclass(frozen=True)
class Part:
    """Columns of a row that are joined on their own, as schemas.law.stored does it.

    `greatest` and `least` are of one column, in which what is missing counts for nothing. `newest` and `oldest` keep all
    columns of the row whose tuple is the greatest or the least; the part is missing where the first column is null.
    """

    how: Literal["greatest", "least", "newest", "oldest"]
    columns: tuple[str, ...]


@dataclass(frozen=True)
class FactTable:
    """A table as facts are merged into it. A staged row has the key, then the parts' columns, then its origin; a set has
    no parts, and then the first of two rows stays. Columns in `texts` are compared by their bytes."""

    name: str
    key: tuple[str, ...]
    parts: tuple[Part, ...] = ()
    texts: frozenset[str] = frozenset()
    lists: frozenset[str] = frozenset()  # of texts

    @cached_property
    def columns(self) -> list[str]:
        """Of the stage, in COPY order."""
        return [*self.key, *(c for part in self.parts for c in part.columns), "origin"]

    def better(self, a: Row, b: Row) -> Row:
        """What two rows of one key say together; counted by the one that is."""
        joined, start = list(a[: len(self.key)]), len(self.key)
        for part in self.parts:
            end = start + len(part.columns)
            joined += self._join(part, a[start:end], b[start:end])
            start = end
        return (*joined, max(a[-1], b[-1]))

    def _join(self, part: Part, a: Row, b: Row) -> Row:
        if a[0] is None or b[0] is None:
            return b if a[0] is None else a
        one, other = self._order(part, a), self._order(part, b)
        chosen = other > one if part.how in ("greatest", "newest") else other < one
        return b if chosen else a

    def _order(self, part: Part, values: Row) -> list[Any]:
        return [v or "" if c in self.texts else v for c, v in zip(part.columns, values, strict=True)]

    @cached_property
    def stage(self) -> str:
        """Makes the stage, empty."""
        create = (
            f"CREATE TEMP TABLE IF NOT EXISTS stage_{self.name} (LIKE {SCHEMA}.{self.name}, origin smallint NOT NULL)"
        )
        return f"{create} ON COMMIT DROP; DELETE FROM stage_{self.name}"  # noqa: S608 - the name is ours

    @cached_property
    def merge(self) -> str:
        """Merges the stage; answers how many rows of each origin changed something."""
        key, columns = ", ".join(self.key), ", ".join(self.columns[:-1])
        conflict = "DO NOTHING"
        if self.parts:
            wins = {part: self._wins(part) for part in self.parts}
            sets = [
                f"{c} = CASE WHEN {wins[p]} THEN excluded.{c} ELSE t.{c} END" for p in self.parts for c in p.columns
            ]
            conflict = f"DO UPDATE SET {', '.join(sets)} WHERE {' OR '.join(wins.values())}"
        insert = f"INSERT INTO {SCHEMA}.{self.name} AS t ({columns}) SELECT {columns} FROM stage_{self.name}"  # noqa: S608
        returned = ", ".join(f"t.{c}" for c in self.key)
        return (
            f"WITH changed AS ({insert} ON CONFLICT ({key}) {conflict} RETURNING {returned}) "  # noqa: S608
            f"SELECT origin, count(*) AS written FROM changed JOIN stage_{self.name} USING ({key}) "
            f"WHERE origin >= 0 GROUP BY origin"
        )

    def _wins(self, part: Part) -> str:
        """The condition under which the new row's part takes the old one's place."""
        first = part.columns[0]
        sign = ">" if part.how in ("greatest", "newest") else "<"
        new, old = (", ".join(self._compared(row, c) for c in part.columns) for row in ("excluded", "t"))
        return f"(excluded.{first} IS NOT NULL AND (t.{first} IS NULL OR ({new}) {sign} ({old})))"

    def _compared(self, row: str, column: str) -> str:
        if column in self.texts:
            return f"coalesce({row}.{column}, '') COLLATE \"C\""
        return f'{row}.{column} COLLATE "C"' if column in self.lists else f"{row}.{column}"

    async def copy(self, connection: Connection, rows: list[Row]) -> None:
        """Stages the rows."""
        await connection.execute(self.stage)
        await copy_rows(connection, f"stage_{self.name}", self.columns, rows)

    async def merge_stage(self, connection: Connection, count: int) -> Counter[int]:
        """Merges the `count` rows that are staged; answers how many of each origin changed something."""
        return Counter({row["origin"]: row["written"] for row in await connection.fetch(self.merge)})


def to_time(ms: int) -> datetime:
    """Unix milliseconds as PostgreSQL's driver takes them."""
    return datetime.fromtimestamp(ms / 1000, UTC)


class Placed(Struct, frozen=True, gc=False):
    """The facts of a record and where it stands. It is counted by the first fact that has a table."""

    facts: list[Any]
    place: Place


class Rows:
    """The rows of one batch by table, each key once."""

    def __init__(self) -> None:
        self._tables: dict[str, FactTable] = {}
        self._rows: dict[str, dict[Key, Row]] = {}
        self.origins: dict[Partition, int] = {}
        self._last = (UNCOUNTED, Partition("", 0))

    def origin(self, place: Place) -> int:
        """The number by which staged rows name the partition of their record. Records of one come after each other."""
        number, last = self._last
        if place.partition != last.partition or place.topic != last.topic:
            last = Partition(place.topic, place.partition)
            number = self.origins.setdefault(last, len(self.origins))
            self._last = number, last
        return number

    def put(self, table: FactTable, key: Key, row: Row) -> None:
        """`key` says the same as the row's key, in values that compare fast: two writers must agree on an order."""
        rows = self._rows.get(table.name)
        if rows is None:
            self._tables[table.name], rows = table, self._rows.setdefault(table.name, {})
        other = rows.get(key)
        rows[key] = row if other is None else table.better(other, row)

    def __contains__(self, table: FactTable) -> bool:
        return table.name in self._tables

    def counts(self) -> Iterable[tuple[FactTable, int]]:
        """Tables in the same order, and how many rows each has."""
        return ((self._tables[name], len(rows)) for name, rows in sorted(self._rows.items()))

    def tables(self) -> Iterable[tuple[FactTable, list[Row]]]:
        """Tables in one order, their rows in one order."""
        for name, rows in sorted(self._rows.items()):
            yield self._tables[name], [rows[key] for key in sorted(rows)]


Stager = Callable[[Any, Place, int, Ids, Rows], None]


class FactWriter:
    """Prepares and writes what a consumer's stagers know; facts of other kinds belong to other consumers."""

    def __init__(self, name: str, pool: Pool, stagers: Mapping[type, Stager]) -> None:
        self._name, self._stagers = name, stagers
        self.ids = Ids(pool)

    async def prepare(self, batch: list[Placed]) -> Rows:
        """See pipeline.consumer.Consumer."""
        await self.ids.open()
        rows = Rows()
        while batch:
            left: list[Placed] = []
            for start in range(0, len(batch), _SLICE):
                left += [placed for placed in batch[start : start + _SLICE] if not self._staged(placed, rows)]
                await asyncio.sleep(0)
            if left:
                await self.ids.learn()
            batch = left
        return rows

    def _staged(self, placed: Placed, rows: Rows) -> bool:
        """False when ids are missing; what was put already is put again later, which changes nothing."""
        origin = rows.origin(placed.place)
        try:
            for fact in placed.facts:
                stage = self._stagers.get(type(fact))
                if stage is not None:
                    stage(fact, placed.place, origin, self.ids, rows)
                    origin = UNCOUNTED
        except KeyError:
            if not self.ids.missing:
                raise
            return False
        return True

    async def stage(self, connection: Connection, rows: Rows) -> None:
        """See pipeline.consumer.Consumer."""
        with metrics.STAGE_SECONDS.labels(self._name, "copy").time():
            for table, staged in rows.tables():
                await table.copy(connection, staged)

    async def write(self, connection: Connection, rows: Rows) -> dict[Partition, int]:
        """See pipeline.consumer.Consumer."""
        written: Counter[int] = Counter()
        with metrics.STAGE_SECONDS.labels(self._name, "merge").time():
            for table, count in rows.counts():
                written += await table.merge_stage(connection, count)
        return {partition: written[number] for partition, number in rows.origins.items() if written[number]}
