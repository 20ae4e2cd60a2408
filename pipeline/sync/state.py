"""The rows of sync_state: who works on which request, how far it is, how it ended. Every change is one statement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg
from asyncpg.pgproto.pgproto import UUID  # a tenth of the cost of Python's

from pipeline.postgres import Connection, Pool, translated
from schemas.sync import SyncRequest
from sql import queries

LEASE_S = 30.0


@dataclass(frozen=True, slots=True)
class Claimed:
    """A request that this process works on. `cursor_s` None: it begins."""

    id: int
    request_id: str
    session: str
    chat: str
    kind: str
    reason: str
    since_s: int
    until_s: int
    cursor_s: int | None
    page_rows: int | None
    attempts: int


@dataclass(frozen=True, slots=True)
class Control:
    """What an operator set while it runs."""

    stopped: bool
    rate_per_s: float | None


async def add_requests(connection: Connection, requests: Sequence[SyncRequest]) -> set[str]:
    """In the caller's transaction; answers the ids of those that are new."""
    found = await connection.fetch(
        queries("sync")["request"],
        [r.request_id for r in requests], [r.session for r in requests], [r.chat for r in requests],
        [r.kind for r in requests], [r.reason for r in requests], [r.priority for r in requests],
        [r.since_s for r in requests], [r.until_s for r in requests],
    )  # fmt: skip
    return {row["request_id"] for row in found}


@dataclass(frozen=True, slots=True)
class Ended:
    """A request that had been spread."""

    id: int
    session: str
    reason: str
    status: str


class SyncState:
    """`owner` names this process among all. Every method raises TransientError when the database is away."""

    def __init__(self, pool: Pool, owner: str, *, lease_s: float = LEASE_S) -> None:
        self._pool, self._owner, self._lease_s = pool, owner, lease_s
        self._hash_key: bytes | None = None

    async def claim(self) -> Claimed | None:
        """The next request that is due and free; None when there is none."""
        async with translated():
            try:
                row = await self._pool.fetchrow(queries("sync")["claim"], self._owner, self._lease_s)
            except asyncpg.UniqueViolationError:  # another process began with the same chat at this moment
                return None
        return Claimed(**row) if row else None

    async def renew(self, claimed: Claimed) -> bool:
        """False when the request is not ours any more."""
        return await self._changed("renew", claimed.id, self._owner, self._lease_s)

    async def advance(self, claimed: Claimed, cursor_s: int, page_rows: int, seen: int, new: int) -> bool:
        """A page is published up to `cursor_s`; False when the request is not ours any more, or was stopped."""
        return await self._changed("advance", claimed.id, self._owner, cursor_s, page_rows, seen, new, self._lease_s)

    async def complete(self, claimed: Claimed) -> bool:
        """All of the window was seen."""
        return await self._changed("complete", claimed.id, self._owner)

    async def wait(
        self, claimed: Claimed, why: str, delay_s: float, *, failed: bool, page_rows: int | None = None
    ) -> None:
        """It goes on later, at its cursor. `failed` counts as one more failure in a row."""
        await self._changed("wait", claimed.id, self._owner, why[:500], delay_s, int(failed), page_rows)

    async def fail(self, claimed: Claimed, why: str) -> None:
        """It never will, unless somebody changes something."""
        await self._changed("fail", claimed.id, self._owner, why[:500])

    async def release_all(self) -> None:
        """This process ends: its requests are free at once."""
        async with translated():
            await self._pool.execute(queries("sync")["release"], self._owner)

    async def spread(self, claimed: Claimed, chats: Sequence[str]) -> bool:
        """It becomes a request for each chat, and waits for them; those that are there already stay. False when it is not
        ours any more, or was stopped."""
        return await self._changed("spread", claimed.id, self._owner, list(chats))

    async def gather(self, session: str | None = None) -> list[Ended]:
        """Requests that were spread, of a session or of all, end with the last one of their chats."""
        async with translated():
            return [Ended(**row) for row in await self._pool.fetch(queries("sync")["gather"], session)]

    async def known(self, session: str, keys: Sequence[tuple[str, bytes]]) -> int:
        """How many of these messages the database has."""
        async with translated():
            found = await self._pool.fetch(
                queries("sync")["known"], session, [chat for chat, _ in keys], [UUID(key) for _, key in keys]
            )
        return len({row["n"] for row in found})

    async def forms(self, session: str, chat: str) -> list[str]:
        """The chat's id, and the other ids of the same person."""
        async with translated():
            rows = await self._pool.fetch(queries("sync")["forms"], session, chat)
        return [chat, *sorted({row["jid"] for row in rows} - {chat})]

    async def siblings(self, claimed: Claimed, chats: Sequence[str]) -> set[str]:
        """Those of the chats that have requests of their own, made together with this one."""
        async with translated():
            rows = await self._pool.fetch(queries("sync")["siblings"], claimed.id, list(chats))
        return {row["chat"] for row in rows}

    async def twins(self, session: str, chats: Sequence[str]) -> dict[str, str]:
        """Those of the chats that are one person: hidden id -> number."""
        async with translated():
            rows = await self._pool.fetch(queries("sync")["twins"], session, list(chats))
        return {row["lid"]: row["phone"] for row in rows}

    async def control(self) -> Control:
        """What an operator set."""
        async with translated():
            row = await self._pool.fetchrow(queries("sync")["control"])
        return Control(row["stopped"], row["rate_per_s"]) if row else Control(False, None)

    async def hash_key(self) -> bytes:
        """The installation's key of message keys."""
        if self._hash_key is None:
            async with translated():
                self._hash_key = await self._pool.fetchval(queries("dictionary")["hash_key"])
        assert self._hash_key is not None
        return self._hash_key

    async def _changed(self, name: str, *args: object) -> bool:
        async with translated():
            return await self._pool.fetchrow(queries("sync")[name], *args) is not None
