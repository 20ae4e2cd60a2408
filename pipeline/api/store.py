"""What the API reads from the database, one method a list. Statements are in sql/queries/api.sql.

Driver errors leave here as TransientError (503 to the client). Messages are read in windows of time, the
newest first: most pages end in the first one, and only a quiet chat opens older chunks.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import MAXYEAR, UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pipeline.api.cursor import NEWEST, OLDEST, Position, just_before
from pipeline.errors import TransientError
from pipeline.postgres import translated
from sql import migrations, queries

if TYPE_CHECKING:
    import asyncpg

    Row = asyncpg.Record

# Measured in docs/adr/0004-query-api.md: over 262 chunks the first window costs a fifth of a read without a bound.
WINDOWS = (timedelta(days=90), timedelta(days=720))
_ACQUIRE_S = 5  # wait for a free connection before 503
_NUL = "\x00"  # PostgreSQL stores none; asking for one would be an error and not a no
_SQL = queries("api")


class Store:
    """Reads through a pool. Made without one, it answers as if the database were away until `pool` is set."""

    def __init__(self, pool: asyncpg.Pool[Row] | None = None) -> None:
        self.pool = pool

    async def not_ready(self) -> str | None:
        """Why the API cannot answer yet, or None. Raises TransientError when the database is away."""
        wanted = migrations()[-1].number
        async with self._connection() as connection:
            if await connection.fetchval("SELECT to_regclass('whatsapp_gateway.schema_migrations')") is None:
                return "the database is not migrated: run `wapipe migrate`"
            number = await connection.fetchval(_SQL["ready"])
        if number is None or number < wanted:
            return f"the database is at migration {number or 0} of {wanted}: run `wapipe migrate`"
        return None

    async def session_id(self, name: str) -> int | None:
        """The session's id, or None when there is none of that name."""
        if _NUL in name:
            return None
        async with self._connection() as connection:
            found: int | None = await connection.fetchval(_SQL["session"], name)
            return found

    async def session_and_chat(self, session: str, chat: str) -> tuple[int | None, int | None]:
        """Their ids; None for what is not known."""
        if _NUL in session:
            return None, None
        async with self._connection() as connection:
            row = await connection.fetchrow(_SQL["session_and_chat"], session, chat)
        return (row["session_id"], row["chat_id"]) if row else (None, None)

    async def messages(self, chat_id: int, before: Position | None, limit: int) -> list[Row]:
        """At most `limit` messages of a chat before a place (or the newest), newest first."""
        place, rows = before or NEWEST, list[Any]()
        async with self._connection() as connection:
            for lower in _lower_bounds(min(place.ts, datetime.now(UTC))):
                sql = messages_between(lower, place.ts)
                rows += await connection.fetch(sql, chat_id, *place, limit - len(rows))
                if len(rows) >= limit:
                    break
                place = just_before(lower)
        return rows

    async def contacts(self, session_id: int, after: str, limit: int) -> list[Row]:
        """At most `limit` contacts of a session whose id sorts after `after`."""
        async with self._connection() as connection:
            rows: list[Row] = await connection.fetch(_SQL["contacts"], session_id, after, limit)
            return rows

    async def sessions(self, after: str, limit: int) -> list[Row]:
        """At most `limit` sessions whose name sorts after `after`."""
        async with self._connection() as connection:
            rows: list[Row] = await connection.fetch(_SQL["sessions"], after, limit)
            return rows

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        if self.pool is None:
            raise TransientError("postgres", "the pool is not open")
        async with translated(), self.pool.acquire(timeout=_ACQUIRE_S) as connection:
            yield connection


def messages_between(lower: datetime, newest: datetime) -> str:
    """The statement for messages from `lower` (a midnight) to the end of the day of `newest`.

    One text a day: connections keep its plan, which knows the few chunks it needs.
    """
    last = newest.astimezone(UTC).date()
    upper = "infinity" if last.year == MAXYEAR else f"{last + timedelta(days=1)}T00:00:00Z"
    return _SQL["messages"].format(lower=lower.isoformat(), upper=upper)


def _lower_bounds(newest: datetime) -> list[datetime]:
    """Where each window ends: a midnight, for the last one the beginning of time."""
    midnight = newest.replace(hour=0, minute=0, second=0, microsecond=0)
    return [midnight - window for window in WINDOWS if window < midnight - OLDEST] + [OLDEST]
