"""The messages consumer: content of `message` and `message.any` into message_content, each message once.

Reads every live topic but the session's, so that the books account for every event; what is not content yet is skipped
by its header and counted by name.
"""

from __future__ import annotations

from typing import NamedTuple

from asyncpg.pgproto.pgproto import UUID

from pipeline import metrics
from pipeline.batch import Event, Partition, Place
from pipeline.dictionary import Dictionary
from pipeline.postgres import Connection, Pool, copy_rows, translated
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
    received_at_ms: int
    rank: bytes


class Messages:
    """See module. `hash_key` is the installation's own; it is read from the database when not given."""

    name = "messages"
    topics: tuple[Topic, ...] = (MESSAGE, RECEIPT, CHAT, PRESENCE, OTHER, BACKFILL)
    events = EVENTS

    def __init__(self, pool: Pool, hash_key: bytes | None = None) -> None:
        self._pool, self._hash_key = pool, hash_key
        self._ids = Dictionary(pool)

    def decode(self, event: Event) -> PlacedContent:
        """See pipeline.runner.Consumer."""
        received = event.received_at_ms
        fact = to_content(parse_body(event.value), event.source, received)
        lane = LANE_BACKFILL if event.backfill else LANE_LIVE
        # Twins (message, message.any) share their envelope id, so the name belongs to what tells them apart.
        apart = f"{event.event}|{fact.event_id}".encode() if fact.event_id else event.value
        return PlacedContent(
            fact, event.place, lane, received, content_rank(fact.poverty, lane, received, apart)
        )

    async def prepare(self, facts: list[PlacedContent]) -> list[StagedContent]:
        """See pipeline.runner.Consumer. Each message once (its fact of lowest rank), sorted by key."""
        if self._hash_key is None:
            async with translated():
                self._hash_key = await self._pool.fetchval("SELECT hash_key FROM whatsapp_gateway.installation")
        self._ids.trim()
        strangers = self._strangers(facts)
        if strangers:
            await self._ids.learn(strangers)
        return self._to_rows(facts, self._hash_key)

    async def write(self, connection: Connection, rows: list[StagedContent]) -> dict[Partition, int]:
        """See pipeline.runner.Consumer."""
        sql = queries("messages")
        await connection.execute(sql["stage"])
        with metrics.STAGE_SECONDS.labels(self.name, "copy").time():
            await copy_rows(connection, "stage_messages", _COLUMNS, rows)
        with metrics.STAGE_SECONDS.labels(self.name, "merge").time():
            new = await connection.fetch(sql["insert_new"])
            if sum(r["written"] for r in new) < len(rows) and await connection.fetchval(sql["lock_better"]):
                await connection.execute(sql["replace_better"])
        return {Partition(r["topic"], r["partition"]): r["written"] for r in new}

    def _strangers(self, facts: list[PlacedContent]) -> set[tuple[str, str]]:
        """(session, jid) of everybody whom the dictionary does not know yet."""
        jids, sessions = self._ids.jids, self._ids.sessions
        found: set[tuple[str, str]] = set()
        for placed in facts:
            fact = placed.fact
            session_id = sessions.get(fact.session, -1)
            for jid in (fact.chat, fact.sender, fact.participant):
                if jid is not None and (session_id, jid) not in jids:
                    found.add((fact.session, jid))
        return found

    def _to_rows(self, facts: list[PlacedContent], hash_key: bytes) -> list[StagedContent]:
        best: dict[tuple[int, bytes], tuple[PlacedContent, int]] = {}
        for placed in facts:
            fact = placed.fact
            session_id = self._ids.sessions[fact.session]
            chat_id = self._ids.jids[session_id, fact.chat]
            key = (chat_id, message_key(hash_key, fact.from_me, fact.key_sender, fact.raw_id))
            other = best.get(key)
            if other is None or placed.rank < other[0].rank:
                best[key] = (placed, session_id)
        return [self._to_row(key, *best[key]) for key in sorted(best)]

    def _to_row(self, key: tuple[int, bytes], placed: PlacedContent, session_id: int) -> StagedContent:
        fact, place, jids = placed.fact, placed.place, self._ids.jids
        return StagedContent(
            fact.ts_ms, placed.received_at_ms, place.offset, session_id, key[0],
            jids[session_id, fact.sender] if fact.sender is not None else None,
            jids[session_id, fact.participant] if fact.participant is not None else None,
            place.partition, placed.lane, UUID(key[1]), fact.from_me, fact.has_media, fact.raw_id, fact.type, fact.body,
            fact.reply_to, fact.source, fact.push_name, fact.mimetype, fact.filename, fact.event_id, place.topic,
            fact.extra, UUID(placed.rank),
        )  # fmt: skip


async def main(settings: Settings) -> None:
    """Process `messages`."""
    async with open_dependencies(settings, Messages.name) as (pool, publisher):
        await serve_consumer(Runner(Messages(pool), settings, pool, publisher), settings, port=4021)
