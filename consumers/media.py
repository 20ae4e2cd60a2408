"""The media consumer: a message with a file becomes a job, in the transaction of its batch; downloads run beside it.

Slow bytes never hold offsets: a job that is in the table is as safe as the message, and any process can do it. A message
that is told again (redelivery, `message` and `message.any`, history) is the same row.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import cached_property, partial

from asyncpg.pgproto.pgproto import UUID

from pipeline import metrics
from pipeline.batch import Event, Partition, Place
from pipeline.consumer import Compared
from pipeline.dictionary import Ids
from pipeline.facts import FactTable, FactWriter, Placed, Row, Rows, to_time
from pipeline.lifecycle import stop_event
from pipeline.media.looks import look_at_jobs
from pipeline.media.run import downloads
from pipeline.pause import Pauses
from pipeline.postgres import Connection, Pool, close_pool, open_pool
from pipeline.serve import run_consumer
from pipeline.settings import MediaSettings, Settings, require_secret
from schemas.keys import message_key
from schemas.media import EVENTS, MediaFact, to_media
from schemas.normalize.head import Record
from schemas.rows import LANE_BACKFILL, LANE_LIVE
from schemas.topics import BACKFILL, MESSAGE, Topic
from sql import queries

_SQL = queries("media")
_DEADLINE = 15  # column of a staged row
_PLACES = slice(8, 11)


class _Downloads(FactTable):
    """media_downloads as orders for files are merged into it."""

    @cached_property
    def columns(self) -> list[str]:
        return [
            *self.key, "session_id", "source", "lane", "ts", "message_id", "type", "url", "s3_bucket", "s3_key",
            "mimetype", "filename", "claimed_bytes", "claimed_sha256", "deadline", "origin",
        ]  # fmt: skip

    @cached_property
    def stage(self) -> str:
        return _SQL["stage"]

    @cached_property
    def merge(self) -> str:
        return _SQL["merge"]

    def better(self, a: Row, b: Row) -> Row:
        """The one whose file is there, and there for longer; counted by the one that is."""
        chosen = max(a, b, key=_usefulness)
        return (*chosen[:-1], max(a[-1], b[-1]))


def _usefulness(row: Row) -> tuple[bool, bool, float, int]:
    """Greater is better: has a place, lives for ever, lives longer, is live."""
    deadline = row[_DEADLINE]
    there = any(part is not None for part in row[_PLACES])
    return there, deadline is None, deadline.timestamp() if deadline is not None else 0.0, -row[4]


DOWNLOADS = _Downloads("media_downloads", ("chat_id", "key"))


class Media:
    """See module. `wake` is called when there may be jobs."""

    name = "media"
    topics: tuple[Topic, ...] = (MESSAGE, BACKFILL)
    events = EVENTS
    compared = (
        Compared(
            DOWNLOADS.name, DOWNLOADS.key, ("ts",), shown=("type", "source"),
            ignore=(
                "download_status", "reason", "url", "s3_bucket", "s3_key", "deadline", "next_at", "attempts", "asked",
                "abandoned", "lease", "leased_until", "last_error", "sha256", "bytes", "created_at", "started_at",
                "finished_at", "lane", "mimetype", "filename", "claimed_bytes", "claimed_sha256", "message_id",
            ),
        ),
    )  # fmt: skip

    def __init__(
        self, pool: Pool, settings: MediaSettings | None = None, *, wake: Callable[[], None] = lambda: None
    ) -> None:
        self._settings, self._wake = settings or MediaSettings(), wake
        self._facts = FactWriter(self.name, pool, {MediaFact: self._stage})

    def decode(self, event: Event) -> Placed:
        """See pipeline.consumer.Consumer."""
        record = Record(event.event, event.source, event.received_at_ms, LANE_BACKFILL if event.backfill else LANE_LIVE)
        return Placed(list(to_media(event.value, record, quoted=self._settings.quoted)), event.place)

    async def prepare(self, batch: list[Placed]) -> Rows:
        """See pipeline.consumer.Consumer."""
        return await self._facts.prepare(batch)

    async def stage(self, connection: Connection, rows: Rows) -> None:
        """See pipeline.consumer.Consumer."""
        await self._facts.stage(connection, rows)

    async def write(self, connection: Connection, rows: Rows) -> dict[Partition, int]:
        """See pipeline.consumer.Consumer."""
        written = await self._facts.write(connection, rows)
        if written:
            self._wake()
        return written

    def _stage(self, fact: MediaFact, _place: Place, origin: int, ids: Ids, rows: Rows) -> None:
        chat_id = ids.jid(fact.session, fact.chat)
        key = message_key(ids.hash_key, fact.author, fact.raw_id)
        life_s, deadline = self._settings.files_lifetime_s, None
        if life_s and fact.url is not None and fact.s3_key is None:
            deadline = to_time(fact.stamped_ms + int(life_s * 1000))
        row = (
            chat_id, UUID(key), ids.session(fact.session), fact.source, fact.lane, to_time(fact.ts_ms),
            fact.message_id, fact.type, fact.url, fact.s3_bucket, fact.s3_key, fact.mimetype, fact.filename, fact.bytes,
            bytes.fromhex(fact.sha256) if fact.sha256 else None, deadline, origin,
        )  # fmt: skip
        rows.put(DOWNLOADS, (chat_id, key), row)


async def main(settings: Settings) -> None:
    """Process `media`: the consumer, and the downloads beside it."""
    require_secret(settings.database.password, "WHATSAPP_DB_PASSWORD", "the database is reached with it")
    metrics.begin_media()
    pool = await open_pool(settings.database, name="media downloads", max_size=6)
    try:
        pauses = Pauses(Media.name)
        async with downloads(settings, pool, pauses=pauses) as running, asyncio.TaskGroup() as group:
            make = partial(Media, settings=settings.media, wake=running.wake)
            group.create_task(running.run(stop_event(), grace_s=settings.consumer.shutdown_grace_s))
            group.create_task(run_consumer(make, Media.name, settings, look_at_jobs, pauses=pauses))
    finally:
        await close_pool(pool)
