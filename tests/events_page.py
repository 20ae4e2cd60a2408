"""The tables of docs/events.md: event and engine to facts, facts to tables and columns. tests/docs.py writes the page."""

from __future__ import annotations

import re

from schemas.normalize.catalogue import CATALOGUE, ENGINES, TABLES, Described
from sql import migrations

_TABLE = re.compile(r"^CREATE TABLE (\w+) \((.*?)^\)", re.MULTILINE | re.DOTALL)
_COLUMN = re.compile(r'^ {4}"?([a-z_]+)"? +[a-z]', re.MULTILINE)
_ALTERED = re.compile(r"^ALTER TABLE (\w+) (.*?);", re.MULTILINE | re.DOTALL)
_ADDED, _DROPPED = re.compile(r"ADD COLUMN (\w+)"), re.compile(r"DROP COLUMN (\w+)")


def events_table() -> str:
    """Event, a column an engine, the facts it can state, what is not kept."""
    lines = ["| event | " + " | ".join(ENGINES) + " | facts | not kept |", "|---" * (len(ENGINES) + 3) + "|"]
    for event, described in CATALOGUE.items():
        sent = " | ".join(_sent(described, engine) for engine in ENGINES)
        facts = ", ".join(_name(kind) for kind in described.states)
        lines.append(f"| `{event}` | {sent} | {facts} | {described.not_kept} |")
    return "\n".join(lines)


def facts_table() -> str:
    """Fact, its tables with their columns, how it merges."""
    columns = columns_of_tables()
    lines = ["| fact | table: columns | merge |", "|---|---|---|"]
    for kind, (tables, merge) in TABLES.items():
        shown = "; ".join(f"`{table}`: {', '.join(columns[table])}" for table in tables)
        lines.append(f"| {_name(kind)} | {shown} | {merge} |")
    return "\n".join(lines)


def columns_of_tables() -> dict[str, list[str]]:
    """Table -> columns, after all migrations."""
    found: dict[str, list[str]] = {}
    for migration in migrations():
        for table, body in _TABLE.findall(migration.text):
            found[table] = _COLUMN.findall(body)
        for table, change in _ALTERED.findall(migration.text):
            kept = [c for c in found.get(table, []) if c not in _DROPPED.findall(change)]
            found[table] = kept + [c for c in _ADDED.findall(change) if c not in kept]
    return found


def _sent(described: Described, engine: str) -> str:
    if engine not in described.engines:
        return "–"
    return "tags" if engine in described.tagged else "yes"


def _name(kind: type) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind.__name__.removesuffix("Fact").removeprefix("Ranked")).lower()
