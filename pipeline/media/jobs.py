"""Jobs: taken under a lease, renewed, ended. A job whose lease ran out belongs to somebody else, and nothing is written to it.

Statements are in sql/queries/media.sql. Every method raises TransientError while the database is away.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID, uuid4

from pipeline.postgres import Pool, translated
from sql import queries

_SQL = queries("media")
# Less than this is left of a file's life: it is not raced for, WAHA is asked for it again instead.
MARGIN_S = 1.0

End = Literal["skipped", "failed", "expired"]


@dataclass(frozen=True, slots=True)
class Job:
    """A file to fetch, as the row says it. `left_s`: until WAHA deletes the file; None when that is not known, or never."""

    chat_id: int
    key: UUID
    lease: UUID
    session: str
    source: str
    lane: int
    ts: datetime
    message_id: str
    type: str
    url: str | None
    s3_bucket: str | None
    s3_key: str | None
    mimetype: str | None
    filename: str | None
    claimed_bytes: int | None
    claimed_sha256: bytes | None
    attempts: int
    asked: int
    abandoned: int
    created_at: datetime
    left_s: float | None
    age_s: float

    @property
    def place(self) -> tuple[int, UUID]:
        """The message's key."""
        return self.chat_id, self.key

    @property
    def is_there(self) -> bool:
        """WAHA should still have the file where it said."""
        known = self.url is not None or self.s3_key is not None
        return known and (self.left_s is None or self.left_s >= MARGIN_S)


@dataclass(frozen=True, slots=True)
class Again:
    """Try again after `after_s`. `asked`: WAHA was asked for the file and had none; `forget`: the known place is no good;
    `counted`: False when what the job needs was away, so that it was no attempt."""

    after_s: float
    error: str
    asked: bool = False
    forget: bool = False
    counted: bool = True


class Jobs:
    """The table of jobs, for one process. `lease_s` is how long a job stays ours without a word."""

    def __init__(self, pool: Pool, *, lease_s: float = 60.0) -> None:
        self._pool, self.lease_s = pool, lease_s
        self._lease = uuid4()

    async def take(self, source: str, limit: int, to_ask: int) -> list[Job]:
        """At most `limit` jobs of a WAHA server, the most urgent ones first, at most `to_ask` whose file is not there."""
        rows = await self._fetch("take", limit, source, self._lease, self.lease_s, MARGIN_S, to_ask)
        jobs = [Job(**dict(row)) for row in rows]
        return sorted(jobs, key=lambda j: (not j.is_there, j.lane, j.left_s is None, j.left_s or 0.0))

    async def renew(self, places: Iterable[tuple[int, UUID]]) -> set[tuple[int, UUID]]:
        """Which of these jobs are still ours, for a whole lease again."""
        held = list(places)
        rows = await self._fetch("renew", [p[0] for p in held], [p[1] for p in held], self.lease_s, self._lease)
        return {(row["chat_id"], row["key"]) for row in rows}

    async def release(self) -> None:
        """Gives back whatever this process still has."""
        async with translated():
            await self._pool.execute(_SQL["release"], self._lease)

    async def moved(self, job: Job, url: str | None, bucket: str | None, key: str | None, life_s: float | None) -> bool:
        """WAHA downloaded it again: the new place. False when the job is no longer ours."""
        return bool(await self._fetch("new_place", job.chat_id, job.key, job.lease, url, bucket, life_s, key))

    async def again(self, job: Job, later: Again) -> bool:
        """Gives it back. False when the job is no longer ours."""
        return bool(
            await self._fetch(
                "postpone", job.chat_id, job.key, job.lease, later.after_s, later.error[:300], later.asked,
                later.forget, not later.counted,
            )
        )  # fmt: skip

    async def end(self, job: Job, state: End, reason: str, error: str | None = None) -> bool:
        """Gives it up. False when the job is no longer ours."""
        return bool(await self._fetch("finish", job.chat_id, job.key, job.lease, state, reason, error))

    async def fail_unknown(self, sources: Iterable[str]) -> int:
        """Ends jobs of WAHA servers that are none of these; answers how many."""
        return len(await self._fetch("fail_unknown", list(sources)))

    async def _fetch(self, name: str, *values: Any) -> list[Any]:
        async with translated():
            rows: list[Any] = await self._pool.fetch(_SQL[name], *values)
            return rows
