"""What a shadow replay found: rows of the scratch tables against the live rows that the same records decided.

A live row that a record outside the replay decided is not judged, only counted.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.consumer import Compared
from pipeline.postgres import Connection, connect_directly, translated
from pipeline.settings import DatabaseSettings
from sql import SCHEMA, queries

_PLACE = ("topic", "partition", "offset")
_EXAMPLES = 3  # of each kind
_SHOWN_CHARS = 60
_TIMEOUT_S = 4 * 3600  # a live table is read once from end to end


@dataclass(frozen=True, slots=True)
class Difference:
    """One table. `missing` is None where rows do not name their record; `elsewhere` were not judged.

    `columns`: changed rows by column. `examples`: sentences without what people wrote.
    """

    table: str
    same: int
    added: int
    changed: int
    missing: int | None
    elsewhere: int
    columns: dict[str, int]
    examples: list[str]

    @property
    def differs(self) -> bool:
        """Whether the code that was replayed makes other rows than the live ones."""
        return bool(self.added or self.changed or self.missing)


async def compare(database: DatabaseSettings, scratch: str, tables: Sequence[Compared]) -> list[Difference]:
    """All tables at one moment. Raises TransientError."""
    connection = await connect_directly(database, name="replay", command_timeout_s=_TIMEOUT_S)
    try:
        async with translated():
            await connection.execute(f"ANALYZE {', '.join(f'{scratch}.{_quoted(t.table)}' for t in tables)}")
        found: list[Difference] = []
        for table in tables:
            async with translated(), connection.transaction(isolation="repeatable_read"):
                found.append(await _compare(connection, scratch, table))
        return found
    finally:
        await connection.close()


async def _compare(connection: Connection, scratch: str, what: Compared) -> Difference:
    rows = await connection.fetch(queries("shadow")["columns"], f"{SCHEMA}.{_quoted(what.table)}")
    columns = [r["name"] for r in rows if r["name"] not in (*what.key, *what.ignore, *what.decided_by)]
    sql = _Statements(scratch, what, columns)
    if what.by_place:
        await connection.execute(sql["stage_replayed"])
        await connection.execute(sql["touched_by_place"])
    else:
        await connection.execute(sql["touched_by_decider"])
    await connection.execute("ANALYZE touched")
    await connection.execute(sql["unmatched"])
    count = await connection.fetchrow(sql["count"])
    by_column = await connection.fetchrow(sql["count_columns"])
    assert count is not None
    assert by_column is not None
    return Difference(
        what.table, count["same"], count["added"], count["changed"], count["missing"] if what.by_place else None,
        count["elsewhere"], {c: n for c, n in by_column.items() if n}, await _examples(connection, sql, what, columns),
    )  # fmt: skip


class _Statements:
    """The statements of sql/queries/shadow.sql for one table."""

    def __init__(self, scratch: str, what: Compared, columns: Sequence[str]) -> None:
        def differ(column: str) -> str:
            name = _quoted(column)
            if column in what.rising:
                return f"(s.{name} > l.{name}) IS TRUE"
            return f"l.{name} IS DISTINCT FROM s.{name}"

        self._texts = queries("shadow")
        self._parts = {
            "scratch": scratch,
            "scratch_table": f"{scratch}.{_quoted(what.table)}",
            "live": f"{SCHEMA}.{_quoted(what.table)}",
            "same_key": " AND ".join(f"l.{_quoted(k)} = s.{_quoted(k)}" for k in what.key),
            "same": f"NOT ({' OR '.join(map(differ, columns)) or 'false'})",
            "same_decider": " AND ".join(f"l.{_quoted(c)} IS NOT DISTINCT FROM s.{_quoted(c)}" for c in what.decided_by)
            or "true",
            "changed_columns": ", ".join(f"count(*) FILTER (WHERE {differ(c)}) AS {_quoted(c)}" for c in columns)
            or "count(*) FILTER (WHERE false)",  # a table that is all key
            "both_columns": ", ".join(
                f'{alias}.{_quoted(c)} AS "{alias}.{c}"' for alias in "ls" for c in _told(what, columns)
            ),
        }

    def __getitem__(self, name: str) -> str:
        text = self._texts[name]
        for part, value in self._parts.items():
            text = text.replace("{" + part + "}", value)
        return text


async def _examples(connection: Connection, sql: _Statements, what: Compared, columns: Sequence[str]) -> list[str]:
    found: list[str] = []
    for row in await connection.fetch(sql["changed_rows"], _EXAMPLES):
        live, new = ({c: row[f"{alias}.{c}"] for c in _told(what, columns)} for alias in "ls")
        changes = ", ".join(
            f"{c} {_outline(live[c], c in what.shown)} → {_outline(new[c], c in what.shown)}"
            for c in columns
            if (new[c] > live[c] if c in what.rising else live[c] != new[c])
        )
        found.append(f"changed {_name(live, what)}: {changes}")
    for kind in ("missing", "added"):
        if kind == "added" or what.by_place:
            rows = await connection.fetch(sql[f"{kind}_rows"], _EXAMPLES)
            found += [f"{kind} {_name(dict(r), what)}" for r in rows]
    return found


def _told(what: Compared, columns: Sequence[str]) -> list[str]:
    """The columns that an example is made of, each once."""
    return list(dict.fromkeys((*what.key, *(_PLACE if what.by_place else ()), *columns)))


def _name(row: Mapping[str, Any], what: Compared) -> str:
    """Where to look a row up: its record, else its key."""
    if what.by_place:
        return "/".join(str(row[c]) for c in _PLACE)
    return " ".join(_outline(row[k], k in what.shown) for k in what.key)


def _outline(value: Any, shown: bool) -> str:
    """A value without what it says: letters become x, digits 0; numbers, times and truths stay."""
    if value is None:
        return "null"
    if not isinstance(value, str):
        return str(value)
    text = value if shown else "".join(_blank(c) for c in value)
    return repr(text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}… ({len(text)})")


def _blank(char: str) -> str:
    category = unicodedata.category(char)
    if category[0] == "N":
        return "0"
    if category[0] in "LM":
        return "X" if category == "Lu" else "x"
    return char


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
