"""SQL files by name. Migrations are numbered; a query file holds statements under `-- name: …` lines."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files

SCHEMA = "whatsapp_gateway"  # every statement names it: behind PgBouncer there is no search_path to rely on

_SCHEMA = re.compile(rf"\b{SCHEMA}\b")
_IDENTIFIER = re.compile(r"^[a-z_][a-z0-9_]{0,62}$")
_NAME = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)
_MIGRATION = re.compile(r"^(\d{4})_\w+\.sql$")


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file. `checksum` is SHA-256 over its text, hex."""

    number: int
    name: str
    text: str
    checksum: str


@cache
def queries(file: str) -> dict[str, str]:
    """The statements of sql/queries/{file}.sql by name. Raises KeyError later, FileNotFoundError now."""
    text = (files("sql") / "queries" / f"{file}.sql").read_text(encoding="utf-8")
    parts = _NAME.split(text)
    return {name: body.strip().rstrip(";") for name, body in zip(parts[1::2], parts[2::2], strict=True)}


@lru_cache(maxsize=1024)
def in_schema(statement: str, schema: str) -> str:
    """The statement (or a migration's text) for the tables of another schema. Raises ValueError for an unsafe name."""
    if not _IDENTIFIER.match(schema):
        raise ValueError(f"not a plain schema name: {schema!r}")
    return _SCHEMA.sub(schema, statement)


def migrations() -> list[Migration]:
    """All migrations in order. Raises ValueError when two have one number or one is missing."""
    found: list[Migration] = []
    for entry in sorted((files("sql") / "migrations").iterdir(), key=lambda e: e.name):
        match = _MIGRATION.match(entry.name)
        if match is None:
            continue
        text = entry.read_text(encoding="utf-8")
        digest = hashlib.sha256(text.encode()).hexdigest()
        found.append(Migration(int(match[1]), entry.name.removesuffix(".sql"), text, digest))
    if [m.number for m in found] != list(range(1, len(found) + 1)):
        raise ValueError(f"migrations must be numbered 1, 2, 3 …: {[m.name for m in found]}")
    return found
