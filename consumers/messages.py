"""The messages consumer: content of `message` and `message.any` into message_content, each message once.

Reads every live topic but the session's, so that the books account for every event; what is not content yet is skipped
by its header and counted by name.
"""

from __future__ import annotations

from typing import Any

from asyncpg.pgproto.pgproto import UUID
from msgspec import Struct

from pipeline import metrics
from pipeline.batch import Event, Partition, Place
from pipeline.consumer import Compared
from pipeline.dictionary import Dictionary
from pipeline.postgres import Connection, Pool, copy_rows, translated
from pipeline.serve import run_consumer
from pipeline.settings import Settings
from schemas.ids import message_key
from schemas.normalize.message import EVENTS, to_content
from schemas.rows import LANE_BACKFILL, LANE_LIVE, ContentFact, StagedContent, content_rank
from schemas.topics import BACKFILL, CHAT, MESSAGE, OTHER, PRESENCE, RECEIPT, Topic
from schemas.webhook import parse_body
from sql import queries

_COLUMNS = list(StagedContent._fields)
Row = tuple[Any, ...]  # as StagedContent; making plain tuples is a measurable part of a batch


class PlacedContent(Struct, frozen=True, gc=False):
    """A content fact with its provenance and rank."""

    fact: ContentFact
    place: Place
    lane: int
    received_at_ms: int
    rank: bytes


class Messages:
    """See module. `hash_key` is the installation's own; it is read from the database when not given."""

    name = "messages"
    topics: tuple[Topic, ...] = (MESSAGE, RECEIPT, CHAT, PRESENCE, OTHER, BACKFILL)
    events = EVENTS
    compared = (Compared("message_content", ("chat_id", "key"), shown=("type", "source", "mimetype", "topic")),)

    def __init__(self, pool: Pool, hash_key: bytes | None = None) -> None:
        self._pool, self._hash_key = pool, hash_key
        self._ids = Dictionary(pool)

    def decode(self, event: Event) -> PlacedContent:
        """See pipeline.consumer.Consumer."""
        received = event.received_at_ms
        fact = to_content(parse_body(event.value), event.source, received)
        lane = LANE_BACKFILL if event.backfill else LANE_LIVE
        # Twins (message, message.any) share their envelope id, so the name belongs to what tells them apart.
        apart = f"{event.event}|{fact.event_id}".encode() if fact.event_id else event.value
        return PlacedContent(fact, event.place, lane, received, content_rank(fact.poverty, lane, received, apart))

    async def prepare(self, facts: list[PlacedContent]) -> list[Row]:
        """See pipeline.consumer.Consumer. Each message once (its fact of lowest rank), sorted by key."""
        if self._hash_key is None:
            async with translated():
                self._hash_key = await self._pool.fetchval("SELECT hash_key FROM whatsapp_gateway.installation")
        self._ids.trim()
        best: dict[tuple[int, bytes], Row] = {}
        strangers = self._place(facts, self._hash_key, best)
        if strangers:
            people = [(p.fact.session, (p.fact.chat, p.fact.sender, p.fact.participant)) for p in strangers]
            await self._ids.learn({(session, jid) for session, jids in people for jid in jids if jid})
            self._place(strangers, self._hash_key, best)
        return [best[place] for place in sorted(best)]

    async def write(self, connection: Connection, rows: list[Row]) -> dict[Partition, int]:
        """See pipeline.consumer.Consumer."""
        sql = queries("messages")
        await connection.execute(sql["stage"])
        with metrics.STAGE_SECONDS.labels(self.name, "copy").time():
            await copy_rows(connection, "stage_messages", _COLUMNS, rows)
        await connection.execute(sql["heard"])
        with metrics.STAGE_SECONDS.labels(self.name, "merge").time():
            new = await connection.fetch(sql["insert_new"])
            if sum(r["written"] for r in new) < len(rows) and await connection.fetchval(sql["lock_better"]):
                await connection.execute(sql["replace_better"])
        return {Partition(r["topic"], r["partition"]): r["written"] for r in new}

    def _place(
        self, facts: list[PlacedContent], hash_key: bytes, best: dict[tuple[int, bytes], Row]
    ) -> list[PlacedContent]:
        """Puts the row of each fact into `best` unless a better one is there; answers the facts of people (or sessions)
        whom the dictionary does not know yet."""
        find_session, find_jid = self._ids.sessions.get, self._ids.jids.get
        strangers: list[PlacedContent] = []
        for placed in facts:
            fact, place, rank = placed.fact, placed.place, placed.rank
            session_id = find_session(fact.session, -1)
            chat_id = find_jid((session_id, fact.chat))
            sender_id = find_jid((session_id, fact.sender)) if fact.sender is not None else None
            participant_id = find_jid((session_id, fact.participant)) if fact.participant is not None else None
            if (
                chat_id is None
                or (sender_id is None and fact.sender is not None)
                or (participant_id is None and fact.participant is not None)
            ):
                strangers.append(placed)
                continue
            key = (chat_id, message_key(hash_key, fact.from_me, fact.key_sender, fact.raw_id))
            other = best.get(key)
            if other is None or rank < other[-1].bytes:
                best[key] = (
                    fact.ts_ms, placed.received_at_ms, place.offset, session_id, chat_id, sender_id, participant_id,
                    place.partition, placed.lane, UUID(key[1]), fact.from_me, fact.has_media, fact.raw_id, fact.type,
                    fact.body, fact.reply_to, fact.source, fact.push_name, fact.mimetype, fact.filename, fact.event_id,
                    place.topic, fact.extra, UUID(rank),
                )  # fmt: skip
        return strangers


async def main(settings: Settings) -> None:
    """Process `messages`."""
    await run_consumer(Messages, Messages.name, settings)
