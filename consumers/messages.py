"""The messages consumer: what people wrote, and everything that is said of it afterwards, each fact into its table.

Content goes through message_keys, which decides what is new. Acks, edits, revokes, reactions, votes and responses need no
message to be there. Events that no consumer has a table for are kept whole.
"""

from __future__ import annotations

from collections import Counter
from functools import cached_property

from asyncpg.pgproto.pgproto import UUID

from pipeline import others
from pipeline.batch import Event, Partition, Place
from pipeline.consumer import Compared
from pipeline.dictionary import Ids
from pipeline.facts import FactTable, FactWriter, Part, Placed, Row, Rows, Stager, to_time
from pipeline.postgres import Connection, Pool
from pipeline.serve import run_consumer
from pipeline.settings import Settings
from schemas.facts import (
    ACK_LEVELS,
    AckFact,
    EditFact,
    MessageFact,
    OtherFact,
    RankedContent,
    ReactionFact,
    ResponseFact,
    RevokeFact,
    VoteFact,
    ack_rank,
)
from schemas.keys import ME, message_key
from schemas.normalize.events import to_facts
from schemas.normalize.head import Record
from schemas.rows import LANE_BACKFILL, LANE_LIVE, StagedContent
from schemas.topics import BACKFILL, MESSAGE, OTHER, RECEIPT, Topic
from sql import queries

_NOBODY = 0  # recipient_id of an ack that names nobody
_RANKS = {level: ack_rank(level) for level in ACK_LEVELS}
_SERVER, _DEVICE, _READ, _PLAYED = (_RANKS[level] for level in (1, 2, 3, 4))


class _Contents(FactTable):
    """message_content behind message_keys: a new message is inserted, a better content takes the place of a poorer one."""

    @cached_property
    def columns(self) -> list[str]:
        return [*StagedContent._fields, "first_ms", "origin"]

    @cached_property
    def stage(self) -> str:
        return queries("messages")["stage"]

    def better(self, a: Row, b: Row) -> Row:
        """The one of the lower rank, received first when either was. Its last columns are rank, first_ms and origin."""
        shown, other = (b, a) if b[-3].bytes < a[-3].bytes else (a, b)
        return shown if shown[-2] <= other[-2] else (*shown[:-2], other[-2], shown[-1])

    async def merge_stage(self, connection: Connection, count: int) -> Counter[int]:
        sql = queries("messages")
        written = Counter({r["origin"]: r["written"] for r in await connection.fetch(sql["insert_new"])})
        if written.total() < count:  # some were known, or are not counted
            [known] = await connection.fetch(sql["lock_known"])
            if known["earlier"]:
                await connection.execute(sql["first_seen"])
            if known["better"]:
                await connection.execute(sql["replace_better"])
        return written


class _Acks(FactTable):
    """message_acks: the level only rises, of each level the first time stays."""

    @cached_property
    def columns(self) -> list[str]:
        return [*self.key, "level", "server_ms", "device_ms", "read_ms", "played_ms", "origin"]

    @cached_property
    def stage(self) -> str:
        return queries("acks")["stage"]

    @cached_property
    def merge(self) -> str:
        return queries("acks")["merge"]

    def better(self, a: Row, b: Row) -> Row:
        """What both say together; counted by the one that is."""
        times = [y if x is None else x if y is None else min(x, y) for x, y in zip(a[4:8], b[4:8], strict=True)]
        return (*a[:3], max(a[3], b[3]), *times, max(a[8], b[8]))


CONTENTS = _Contents("messages", ("chat_id", "key"))
ACKS = _Acks("acks", ("chat_id", "key", "recipient_id"))
EDITS = FactTable(
    "message_edits", ("chat_id", "key", "edit_key"),
    (Part("oldest", ("unreadable", "at", "event_id", "body", "body_before", "edit_id")),),
    frozenset({"event_id", "body", "body_before", "edit_id"}),
)  # fmt: skip
REVOKES = FactTable(
    "message_revokes", ("chat_id", "key", "by_id"),
    (Part("oldest", ("at", "event_id")), Part("greatest", ("body_before",))),
    frozenset({"event_id", "body_before"}),
)  # fmt: skip
REACTIONS = FactTable(
    "reactions", ("chat_id", "key", "by_id"), (Part("newest", ("at", "event_id", "emoji")),),
    frozenset({"event_id", "emoji"}),
)  # fmt: skip
VOTES = FactTable(
    "poll_votes", ("chat_id", "key", "voter_id"),
    (Part("newest", ("at", "event_id", "options")), Part("greatest", ("failed_at",))),
    frozenset({"event_id"}), frozenset({"options"}),
)  # fmt: skip
RESPONSES = FactTable(
    "event_responses", ("chat_id", "key", "by_id"),
    (Part("newest", ("at", "event_id", "response", "guests")), Part("greatest", ("failed_at",))),
    frozenset({"event_id", "response"}),
)  # fmt: skip


def _stage_content(fact: RankedContent, place: Place, origin: int, ids: Ids, rows: Rows) -> None:
    content = fact.content
    jids = ids.of(content.session)
    chat_id = jids[content.chat]
    sender_id = jids[content.sender] if content.sender is not None else None
    participant_id = jids[content.participant] if content.participant is not None else None
    key = message_key(ids.hash_key, ME if content.from_me else content.key_sender, content.raw_id)
    row = (
        content.ts_ms, fact.received_at_ms, place.offset, jids.session_id, chat_id, sender_id, participant_id,
        place.partition, fact.lane, UUID(key), content.from_me, content.has_media, content.raw_id, content.type,
        content.body, content.reply_to, content.source, content.push_name, content.mimetype, content.filename,
        content.event_id, place.topic, content.extra, UUID(fact.rank), fact.received_at_ms, origin,
    )  # fmt: skip
    rows.put(CONTENTS, (chat_id, key), row)


def _target(fact: MessageFact, ids: Ids) -> tuple[int, bytes]:
    return ids.of(fact.session)[fact.chat], message_key(ids.hash_key, fact.author, fact.raw_id)


def _stage_ack(fact: AckFact, _place: Place, origin: int, ids: Ids, rows: Rows) -> None:
    chat_id, key = _target(fact, ids)
    recipient_id = ids.jid(fact.session, fact.recipient) if fact.recipient is not None else _NOBODY
    level, at_ms = _RANKS[fact.level], fact.at_ms
    row = (
        chat_id, UUID(key), recipient_id, level, at_ms if level == _SERVER else None, at_ms if level == _DEVICE else None,
        at_ms if level == _READ else None, at_ms if level == _PLAYED else None, origin,
    )  # fmt: skip
    rows.put(ACKS, (chat_id, key, recipient_id), row)


def _stage_edit(fact: EditFact, _place: Place, origin: int, ids: Ids, rows: Rows) -> None:
    chat_id, key = _target(fact, ids)
    edit_key = message_key(ids.hash_key, None, fact.edit_id)
    row = (
        chat_id, UUID(key), UUID(edit_key), fact.text is None, to_time(fact.at_ms), fact.event_id, fact.text,
        fact.text_before, fact.edit_id, origin,
    )  # fmt: skip
    rows.put(EDITS, (chat_id, key, edit_key), row)


def _stage_revoke(fact: RevokeFact, _place: Place, origin: int, ids: Ids, rows: Rows) -> None:
    chat_id, key = _target(fact, ids)
    by_id = ids.jid(fact.session, fact.by)
    said = (to_time(fact.at_ms), fact.event_id, fact.text_before)
    rows.put(REVOKES, (chat_id, key, by_id), (chat_id, UUID(key), by_id, *said, origin))


def _stage_reaction(fact: ReactionFact, _place: Place, origin: int, ids: Ids, rows: Rows) -> None:
    chat_id, key = _target(fact, ids)
    by_id = ids.jid(fact.session, fact.by)
    said = (to_time(fact.at_ms), fact.event_id, fact.emoji)
    rows.put(REACTIONS, (chat_id, key, by_id), (chat_id, UUID(key), by_id, *said, origin))


def _stage_vote(fact: VoteFact, _place: Place, origin: int, ids: Ids, rows: Rows) -> None:
    chat_id, key = _target(fact, ids)
    voter_id, at = ids.jid(fact.session, fact.voter), to_time(fact.at_ms)
    said = (None, None, None, at) if fact.failed else (at, fact.event_id, list(fact.options), None)
    rows.put(VOTES, (chat_id, key, voter_id), (chat_id, UUID(key), voter_id, *said, origin))


def _stage_response(fact: ResponseFact, _place: Place, origin: int, ids: Ids, rows: Rows) -> None:
    chat_id, key = _target(fact, ids)
    by_id, at = ids.jid(fact.session, fact.by), to_time(fact.at_ms)
    answer = (
        (None, None, None, None, at) if fact.failed else (at, fact.event_id, fact.response or "", fact.guests, None)
    )
    rows.put(RESPONSES, (chat_id, key, by_id), (chat_id, UUID(key), by_id, *answer, origin))


_STAGERS: dict[type, Stager] = {
    RankedContent: _stage_content, AckFact: _stage_ack, EditFact: _stage_edit, RevokeFact: _stage_revoke,
    ReactionFact: _stage_reaction, VoteFact: _stage_vote, ResponseFact: _stage_response, OtherFact: others.stage_other,
}  # fmt: skip


class Messages:
    """See module."""

    name = "messages"
    topics: tuple[Topic, ...] = (MESSAGE, RECEIPT, OTHER, BACKFILL)
    events = None  # all of them
    compared = (
        # Two copies of one event, one by way of the spool, say the same: which of them names the row is left open.
        Compared(
            "message_content",
            ("chat_id", "key"),
            ignore=("partition", "offset"),
            shown=("type", "source", "mimetype", "topic"),
        ),
        Compared(
            "message_acks", ACKS.key, rising=("level",), ignore=("server_at", "device_at", "read_at", "played_at")
        ),
        Compared(EDITS.name, EDITS.key, ("at", "event_id")),
        Compared(REVOKES.name, REVOKES.key, ("at", "event_id")),
        Compared(REACTIONS.name, REACTIONS.key, ("at", "event_id")),
        Compared(VOTES.name, VOTES.key, ("at", "event_id"), ignore=("failed_at",)),
        Compared(RESPONSES.name, RESPONSES.key, ("at", "event_id"), ignore=("failed_at",), shown=("response",)),
        others.COMPARED,
    )

    def __init__(self, pool: Pool) -> None:
        self._facts = FactWriter(self.name, pool, _STAGERS)

    def decode(self, event: Event) -> Placed:
        """See pipeline.consumer.Consumer."""
        lane = LANE_BACKFILL if event.backfill else LANE_LIVE
        record = Record(event.event, event.source, event.received_at_ms, lane, people=False)
        return Placed(to_facts(event.value, record), event.place)

    async def prepare(self, batch: list[Placed]) -> Rows:
        """See pipeline.consumer.Consumer."""
        return await self._facts.prepare(batch)

    async def stage(self, connection: Connection, rows: Rows) -> None:
        """See pipeline.consumer.Consumer."""
        await self._facts.stage(connection, rows)

    async def write(self, connection: Connection, rows: Rows) -> dict[Partition, int]:
        """See pipeline.consumer.Consumer."""
        written = await self._facts.write(connection, rows)
        if CONTENTS in rows:
            await connection.execute(queries("messages")["heard"])
        return written


async def main(settings: Settings) -> None:
    """Process `messages`."""
    await run_consumer(Messages, Messages.name, settings)
