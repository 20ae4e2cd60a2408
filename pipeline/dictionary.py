"""Integers for sessions and jids: narrow keys for the wide tables. Cached; new ones are added in a transaction of their own.

An id that was added for a batch which then failed is merely unused, so the cache can never be wrong. One that another
process is adding at this moment is not visible to the statement that waited for it: hence the loops.
"""

from __future__ import annotations

from pipeline.postgres import Pool, translated
from sql import queries

# About 150 bytes an entry: 30 MB at most.
_MAX_ENTRIES = 200_000


class Dictionary:
    """`sessions` and `jids` hold what was learnt; callers read them, only the methods write."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.sessions: dict[str, int] = {}
        self.jids: dict[tuple[int, str], int] = {}  # by (session id, jid)

    def trim(self) -> None:
        """Forgets everything when there is too much of it. Not between learning and reading."""
        if len(self.jids) > _MAX_ENTRIES:
            self.jids.clear()

    async def learn_sessions(self, names: set[str]) -> None:
        """Makes sure that every session has its id. Raises TransientError."""
        while missing := sorted(names - self.sessions.keys()):
            async with translated():
                rows = await self._pool.fetch(queries("dictionary")["sessions"], missing)
            self.sessions |= {r["name"]: r["id"] for r in rows}

    async def learn(self, pairs: set[tuple[str, str]]) -> None:
        """Makes sure that every (session, jid) has its ids. Raises TransientError."""
        await self.learn_sessions({s for s, _ in pairs})
        wanted = {(self.sessions[s], j) for s, j in pairs}
        while missing := sorted(wanted - self.jids.keys()):
            async with translated():
                rows = await self._pool.fetch(
                    queries("dictionary")["jids"], [k[0] for k in missing], [k[1] for k in missing]
                )
            self.jids |= {(r["session_id"], r["jid"]): r["id"] for r in rows}
