"""Integers for sessions and jids: narrow keys for the wide tables. Cached; new ones are added in a transaction of their own.

An id that was added for a batch which then failed is merely unused, so the cache can never be wrong.
"""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.postgres import Pool, transaction
from sql import queries

# About 150 bytes an entry: 30 MB at most.
_MAX_ENTRIES = 200_000


class Dictionary:
    """Look up after `learn`; both methods raise KeyError for what was not learnt."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._sessions: dict[str, int] = {}
        self._jids: dict[tuple[int, str], int] = {}

    def session(self, name: str) -> int:
        """Id of a session."""
        return self._sessions[name]

    def jid(self, session_id: int, jid: str) -> int:
        """Id of a chat or person in a session."""
        return self._jids[session_id, jid]

    async def learn(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Makes sure that every (session, jid) has its ids. Raises TransientError."""
        wanted = set(pairs)
        await self.learn_sessions({s for s, _ in wanted})
        keys = {(self._sessions[s], j) for s, j in wanted}
        if keys <= self._jids.keys():
            return
        if len(self._jids) + len(keys) > _MAX_ENTRIES:
            self._jids.clear()
        await self._learn_jids(sorted(keys - self._jids.keys()))

    async def learn_sessions(self, wanted: set[str]) -> None:
        """Makes sure that every session has its id. Raises TransientError."""
        names = sorted(wanted - self._sessions.keys())
        if not names:
            return
        sql = queries("dictionary")
        async with transaction(self._pool) as connection:
            await connection.execute(sql["add_sessions"], names)
            rows = await connection.fetch(sql["find_sessions"], names)
        self._sessions |= {r["name"]: r["id"] for r in rows}

    async def _learn_jids(self, keys: list[tuple[int, str]]) -> None:
        sql = queries("dictionary")
        columns = [k[0] for k in keys], [k[1] for k in keys]
        async with transaction(self._pool) as connection:
            rows = await connection.fetch(sql["find_jids"], *columns)
            if len(rows) < len(keys):
                await connection.execute(sql["add_jids"], *columns)
                rows = await connection.fetch(sql["find_jids"], *columns)
        self._jids |= {(r["session_id"], r["jid"]): r["id"] for r in rows}
