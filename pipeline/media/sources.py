"""Where a job's file is read from: WAHA's own bucket, the URL that WAHA gave, or the URL that it gives when asked again."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from pipeline.media.fetch import Body, Fetcher, GoneError
from pipeline.media.jobs import Job
from pipeline.media.origins import Guard
from pipeline.s3 import Bucket, MissingError
from schemas.ids import parse_message_id
from schemas.media import session_of

_MAX_SESSIONS = 10_000


@dataclass(frozen=True, slots=True)
class Place:
    """Where WAHA says that a file lies."""

    url: str | None
    bucket: str | None = None
    key: str | None = None


class AskAgain(Protocol):
    """Asks WAHA for a message whose file it shall download again."""

    async def __call__(self, source: str, session: str, chat: str, message_id: str) -> Place | None:
        """The place; None when WAHA has neither the message nor its file. Raises TransientError, NotNowError."""


class NotNowError(Exception):
    """This session cannot be asked now: it was asked for as many files as it may be, or does not work. Try after `after_s`."""

    def __init__(self, after_s: float) -> None:
        super().__init__(f"{after_s:.1f} s")
        self.after_s = after_s


class Sources:
    """All WAHA servers. `guards` and `keys` by source."""

    def __init__(
        self, fetcher: Fetcher, bucket: Bucket, guards: Mapping[str, Guard], keys: Mapping[str, str], *,
        waha_buckets: frozenset[str], ask: AskAgain, ask_rate_per_s: float, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._fetcher, self._bucket, self._guards, self._keys = fetcher, bucket, guards, keys
        self._waha_buckets, self._ask_waha = waha_buckets, ask
        self._apart_s, self._clock = 1.0 / ask_rate_per_s, clock
        self._next_ask: dict[str, float] = {}

    @property
    def names(self) -> list[str]:
        """The sources that are configured."""
        return list(self._guards)

    def place(self, job: Job) -> Place | None:
        """Where the file should be now; None when nobody knows, or its time is over."""
        if job.s3_key is not None and self._is_ours(job, job.s3_bucket, job.s3_key):
            return Place(None, job.s3_bucket, job.s3_key)
        return Place(job.url) if job.url is not None and job.is_there else None

    @asynccontextmanager
    async def open(self, job: Job, place: Place) -> AsyncIterator[Body]:
        """The file. Raises GoneError, BrokenFileError, OriginRefusedError, TransientError."""
        if place.key is not None:
            try:
                async with self._bucket.read(place.key, bucket=place.bucket) as found:
                    yield Body(found.length, found.chunks, place.bucket, place.key, found.etag)
            except MissingError as exc:
                raise GoneError(str(exc)) from exc
        else:
            assert place.url is not None
            async with self._fetcher.get(self._guards[job.source], place.url, self._keys.get(job.source)) as body:
                yield body

    async def ask(self, job: Job) -> Place | None:
        """Asks WAHA to download it again. Raises NotNowError, TransientError."""
        parsed = parse_message_id(job.message_id)
        if parsed is None:
            return None
        self._hold_back(job.session)
        source, session = session_of(job.session)
        found = await self._ask_waha(source, session, parsed.chat, job.message_id)
        if found is None:
            return None
        if found.key is not None and self._is_ours(job, found.bucket, found.key):
            return Place(None, found.bucket, found.key)
        return Place(found.url) if found.url is not None else None

    def _is_ours(self, job: Job, bucket: str | None, key: str) -> bool:
        """True for a bucket that WAHA is known to write to, and a key of this session: a pointer chooses no other file."""
        return bucket in self._waha_buckets and key.startswith(f"{session_of(job.session)[1]}/") and ".." not in key

    def _hold_back(self, session: str) -> None:
        now, free_at = self._clock(), self._next_ask.get(session, 0.0)
        if free_at - now >= 60.0:  # a minute's worth may come at once
            raise NotNowError(free_at - now - 60.0 + self._apart_s)
        if len(self._next_ask) >= _MAX_SESSIONS:
            self._next_ask = {s: at for s, at in self._next_ask.items() if at > now}
        self._next_ask[session] = max(free_at, now) + self._apart_s
