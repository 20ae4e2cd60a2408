"""The messages consumer: content of `message` and `message.any` into message_content, each message once.

Reads every live topic but the session's, so that the books account for every event; what is not content yet is skipped
by its header and counted by name.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

from asyncpg.pgproto.pgproto import UUID

from pipeline import metrics
from pipeline.batch import Event, Partition, Place
from pipeline.dictionary import Dictionary
from pipeline.postgres import Connection, Pool, copy_rows
from pipeline.runner import Runner, open_dependencies, serve_consumer
from pipeline.settings import Settings
from schemas.ids import message_key
from schemas.normalize.message import EVENTS, to_content
from schemas.rows import LANE_BACKFILL, LANE_LIVE, ContentFact, StagedContent, content_rank
from schemas.topics import BACKFILL, CHAT, MESSAGE, OTHER, PRESENCE, RECEIPT, Topic
from schemas.webhook import parse_body
from sql import queries

_COLUMNS = list(StagedContent._fields)


class PlacedContent(NamedTuple):
    """A content fact with its provenance and rank."""

    fact: ContentFact
    place: Place
    lane: int
    received_at: datetime
    rank: bytes


class Messages:
    """See module. `hash_key` is the installation's own (table installation)."""

    name = "messages"
    topics: tuple[Topic, ...] = (MESSAGE, RECEIPT, CHAT, PRESENCE, OTHER, BACKFILL)
    events = EVENTS

    def __init__(self, pool: Pool, hash_key: bytes | None = None) -> None:
        self._pool, self._hash_key = pool, hash_key
        self._ids = Dictionary(pool)

    def decode(self, event: Event) -> PlacedContent:
        """See pipeline.runner.Consumer."""
        received_at = datetime.fromtimestamp(event.received_at_ms / 1000, UTC)
        fact = to_content(parse_body(event.value), event.source, received_at)
        lane = LANE_BACKFILL if event.backfill else LANE_LIVE
        rank = content_rank(fact.poverty, lane, event.received_at_ms, event.value)
        return PlacedContent(fact, event.place, lane, received_at, rank)

    async def resolve(self, facts: list[PlacedContent]) -> None:
        """See pipeline.runner.Consumer."""
        if self._hash_key is None:
            self._hash_key = await self._pool.fetchval("SELECT hash_key FROM whatsapp_gateway.installation")
        pairs = {(f.fact.session, f.fact.chat) for f in facts}
        pairs |= {(f.fact.session, f.fact.sender) for f in facts if f.fact.sender is not None}
        pairs |= {(f.fact.session, f.fact.participant) for f in facts if f.fact.participant is not None}
        await self._ids.learn(pairs)

    async def write(
        self, connection: Connection, facts: list[PlacedContent]
    ) -> dict[Partition, int]:
        """See pipeline.runner.Consumer."""
        sql = queries("messages")
        rows = self.to_rows(facts)
        await connection.execute(sql["stage"])
        with metrics.STAGE_SECONDS.labels(self.name, "copy").time():
            await copy_rows(connection, "stage_messages", _COLUMNS, rows)
        with metrics.STAGE_SECONDS.labels(self.name, "merge").time():
            new = await connection.fetch(sql["insert_new"])
            if sum(r["written"] for r in new) < len(rows) and await connection.fetchval(sql["lock_better"]):
                await connection.execute(sql["replace_better"])
        return {Partition(r["topic"], r["partition"]): r["written"] for r in new}

    def to_rows(self, facts: list[PlacedContent]) -> list[StagedContent]:
        """The rows to stage: each message once (the fact of lowest rank), sorted by key."""
        best: dict[tuple[int, bytes], tuple[PlacedContent, int]] = {}
        assert self._hash_key is not None
        for placed in facts:
            fact = placed.fact
            session_id = self._ids.session(fact.session)
            chat_id = self._ids.jid(session_id, fact.chat)
            key = (chat_id, message_key(self._hash_key, fact.from_me, fact.key_sender, fact.raw_id))
            if key not in best or placed.rank < best[key][0].rank:
                best[key] = (placed, session_id)
        return [self._to_row(key, *best[key]) for key in sorted(best)]

    def _to_row(self, key: tuple[int, bytes], placed: PlacedContent, session_id: int) -> StagedContent:
        fact, place, ids = placed.fact, placed.place, self._ids
        return StagedContent(
            fact.ts, placed.received_at, place.offset, session_id, key[0],
            ids.jid(session_id, fact.sender) if fact.sender is not None else None,
            ids.jid(session_id, fact.participant) if fact.participant is not None else None,
            place.partition, placed.lane, UUID(key[1]), fact.from_me, fact.has_media, fact.raw_id, fact.type, fact.body,
            fact.reply_to, fact.source, fact.push_name, fact.mimetype, fact.filename, fact.event_id, place.topic,
            fact.extra, UUID(placed.rank),
        )  # fmt: skip


async def main(settings: Settings) -> None:
    """Process `messages`."""
    async with open_dependencies(settings, Messages.name) as (pool, publisher):
        await serve_consumer(Runner(Messages(pool), settings, pool, publisher), settings, port=4021)
