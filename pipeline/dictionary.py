"""Integers for sessions and jids: narrow keys for the wide tables. Cached; new ones are added in a transaction of their own.

An id that was added for a batch which then failed is merely unused, so the cache can never be wrong. One that another
process is adding at this moment is not visible to the statement that waited for it: hence the loops.
"""

from __future__ import annotations

from pipeline.postgres import Pool, translated
from sql import queries

# About 150 bytes an entry: 30 MB at most.
_MAX_ENTRIES = 200_000


class SessionIds(dict[str, int]):
    """The ids of a session's jids. One to be learnt is noted in `missing` and raises KeyError."""

    __slots__ = ("missing", "session_id")

    def __init__(self, session_id: int) -> None:
        super().__init__()
        self.session_id = session_id
        self.missing: set[str] = set()

    def __missing__(self, jid: str) -> int:
        self.missing.add(jid)
        raise KeyError(jid)

    def take_missing(self) -> set[str]:
        """What is missing, which is so no longer."""
        taken, self.missing = self.missing, set()
        return taken


class Ids:
    """Ids of sessions and jids, and the key of message keys (`hash_key`). What is to be learnt raises KeyError."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._sessions: dict[str, SessionIds] = {}
        self._missing: set[str] = set()  # sessions
        self.hash_key = b""

    def of(self, session: str) -> SessionIds:
        """Of one session. Raises KeyError."""
        found = self._sessions.get(session)
        if found is None:
            self._missing.add(session)
            raise KeyError(session)
        return found

    def session(self, name: str) -> int:
        """Raises KeyError."""
        return self.of(name).session_id

    def jid(self, session: str, jid: str) -> int:
        """Raises KeyError."""
        return self.of(session)[jid]

    @property
    def missing(self) -> bool:
        """Whether there is something to be learnt."""
        return bool(self._missing) or any(session.missing for session in self._sessions.values())

    async def open(self) -> None:
        """Before a batch. Raises TransientError."""
        if not self.hash_key:
            async with translated():
                self.hash_key = await self._pool.fetchval(queries("dictionary")["hash_key"])
        if sum(map(len, self._sessions.values())) > _MAX_ENTRIES:
            for session in self._sessions.values():
                session.clear()

    async def learn(self) -> None:
        """Everything that was missing, which is forgotten: one that cannot be stored stands in nobody's way later.

        Raises TransientError or PoisonError.
        """
        names, self._missing = self._missing, set()
        wanted = {s.session_id: (s, s.take_missing()) for s in self._sessions.values() if s.missing}
        while missing := sorted(names - self._sessions.keys()):
            async with translated():
                rows = await self._pool.fetch(queries("dictionary")["sessions"], missing)
            self._sessions |= {row["name"]: SessionIds(row["id"]) for row in rows}
        while pairs := sorted((i, jid) for i, (session, jids) in wanted.items() for jid in jids - session.keys()):
            async with translated():
                rows = await self._pool.fetch(
                    queries("dictionary")["jids"], [i for i, _ in pairs], [jid for _, jid in pairs]
                )
            for row in rows:
                wanted[row["session_id"]][0][row["jid"]] = row["id"]
