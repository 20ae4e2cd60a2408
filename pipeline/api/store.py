"""What the API reads from the database, one method a list. Statements are in sql/queries/api.sql.

Driver errors leave here as TransientError (503 to the client). Messages are read in windows of time, the
newest first: most pages end in the first one, and only a quiet chat opens older chunks.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import MAXYEAR, UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from pipeline.api.cursor import NEWEST, OLDEST, Position, just_before
from pipeline.api.gather import Chat, Page, fetch_identities, gather, know_account, ranges
from pipeline.errors import TransientError
from pipeline.postgres import translated
from pipeline.sync.coverage import PageCoverage, read_page_coverage
from schemas.keys import message_key
from schemas.law.people import People
from schemas.law.stored import Stored
from sql import migrations, queries

if TYPE_CHECKING:
    import asyncpg

    Row = asyncpg.Record

# Measured in docs/adr/0004-query-api.md: over 262 chunks the first window costs a fifth of a read without a bound.
WINDOWS = (timedelta(days=90), timedelta(days=720))
_ACQUIRE_S = 5  # wait for a free connection before 503
_AHEAD_S = 2**40  # later than any message
_NUL = "\x00"  # PostgreSQL stores none; asking for one would be an error and not a no
_SQL = queries("api")


class Part(NamedTuple):
    """A part of a chat. `rows` are one for each message, twins among them: the last one is where the next part begins.
    `coverage` is of all of them but the last of a full part."""

    page: Page
    rows: list[Any]
    coverage: PageCoverage


class Store:
    """Reads through a pool. Made without one, it answers as if the database were away until `pool` is set."""

    def __init__(self, pool: asyncpg.Pool[Row] | None = None) -> None:
        self.pool = pool
        self._hash_key: bytes | None = None

    async def not_ready(self) -> str | None:
        """Why the API cannot answer yet, or None. Raises TransientError when the database is away."""
        wanted = migrations()[-1].number
        async with self.connection() as connection:
            if await connection.fetchval("SELECT to_regclass('whatsapp_gateway.schema_migrations')") is None:
                return "the database is not migrated: run `wapipe migrate`"
            number = await connection.fetchval(_SQL["ready"])
        if number is None or number < wanted:
            return f"the database is at migration {number or 0} of {wanted}: run `wapipe migrate`"
        return None

    async def messages(self, session: str, chat: str, before: Position | None, limit: int) -> Part | None:
        """At most `limit` rows of a chat before a place (or the newest), newest first, and what is said of them. None for
        an unknown session."""
        if _NUL in session:
            return None
        async with self.connection() as connection:
            where = await self._chat(connection, session, chat)
            if where is None:
                return None
            found, known = where
            rows = await _rows_before(connection, list(found.jids), before or NEWEST, limit)
            since_s = int(rows[limit - 2]["ts"].timestamp()) if len(rows) >= limit > 1 else 0
            until_s = _AHEAD_S if before is None else int(before.ts.timestamp())
            chats = list({chat, *found.jids.values()})
            coverage = await read_page_coverage(connection, session, chats, min(since_s, until_s), until_s)
            return Part(await gather(connection, found, await self.hash_key(connection), rows, known), rows, coverage)

    async def message(self, session: str, chat: str, raw_id: str) -> Page | None:
        """The messages of a chat that have a raw id, and what is said of them. None for an unknown session."""
        if _NUL in session + raw_id:
            return None
        async with (
            self.connection() as connection,
            # A better source may give the message another time, and so another place, between two statements.
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            where = await self._chat(connection, session, chat)
            if where is None:
                return None
            found, known = where
            hash_key = await self.hash_key(connection)
            key = UUID(bytes=message_key(hash_key, None, raw_id))
            rows = [
                row
                for k in await connection.fetch(
                    _SQL["keys"], *ranges(found, [(chat_id, key) for chat_id in found.jids])
                )
                if (row := await connection.fetchrow(_SQL["content"], k["chat_id"], k["ts"], k["key"])) is not None
            ]
            return await gather(connection, found, hash_key, rows, known)

    async def coverage(self, session: str, chat: str, since_s: int) -> PageCoverage:
        """Of a chat under all its ids, from a second on."""
        async with self.connection() as connection:
            where = await self._chat(connection, session, chat)
            chats = {chat, *(where[0].jids.values() if where is not None else ())}
            return await read_page_coverage(connection, session, list(chats), since_s, _AHEAD_S)

    async def hash_key(self, connection: Any) -> bytes:
        """The installation's key of message keys."""
        if self._hash_key is None:
            self._hash_key = await connection.fetchval(_SQL["hash_key"])
        return self._hash_key

    async def _chat(self, connection: Any, session: str, chat: str) -> tuple[Chat, Stored] | None:
        """The chat under all its ids, and what the law needs to know of its people."""
        rows = await connection.fetch(_SQL["session_and_chats"], session, [chat])
        if not rows:
            return None
        first, known = rows[0], Stored()
        met = [row["chat_id"] for row in rows if row["chat_id"] is not None]
        await fetch_identities(connection, session, met, known)
        if known.identities:  # a chat under its hidden id and its phone number is one chat
            people = People(known)
            names = {jid for _, lid, phone in known.identities for jid in (lid, phone)}
            same = [jid for jid in {*names, chat} if people.chat(session, jid) == people.chat(session, chat)]
            rows = await connection.fetch(_SQL["session_and_chats"], session, same)
        know_account(first, session, known)
        jids = {row["chat_id"]: row["jid"] for row in rows if row["chat_id"] is not None}
        return Chat(session, first["session_id"], jids), known

    async def sessions(self, after: str, limit: int) -> list[Row]:
        """At most `limit` sessions whose name sorts after `after`."""
        async with self.connection() as connection:
            rows: list[Row] = await connection.fetch(_SQL["sessions"], after, limit)
            return rows

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        """A connection for one answer. Raises TransientError."""
        if self.pool is None:
            raise TransientError("postgres", "the pool is not open")
        async with translated(), self.pool.acquire(timeout=_ACQUIRE_S) as connection:
            yield connection


async def _rows_before(connection: Any, chat_ids: list[int], place: Position, limit: int) -> list[Any]:
    rows = list[Any]()
    for lower in _lower_bounds(min(place.ts, datetime.now(UTC))):
        rows += await connection.fetch(messages_between(lower, place.ts), chat_ids, *place, limit - len(rows))
        if len(rows) >= limit:
            break
        place = just_before(lower)
    return rows


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
