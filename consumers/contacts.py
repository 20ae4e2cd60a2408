"""The contacts consumer: whom a session has met and what they are called, groups and their members, labels, calls, presence.

Everything that events say of people and chats and not of a single message, each fact into its table by the law's merges.
"""

from __future__ import annotations

from functools import partial

from pipeline import others, people
from pipeline.batch import Event, Partition, Place
from pipeline.consumer import Compared
from pipeline.dictionary import Ids
from pipeline.facts import UNCOUNTED, FactTable, FactWriter, Part, Placed, Rows, Stager, to_time
from pipeline.postgres import Connection, Pool
from pipeline.serve import run_consumer
from pipeline.settings import Settings
from schemas.facts import (
    ArchiveFact,
    CallFact,
    ChatLabelFact,
    GroupFact,
    IdentityFact,
    JoinRequestFact,
    LabelFact,
    MemberFact,
    NameFact,
    OtherFact,
    PresenceFact,
    RankedContent,
    SeenFact,
)
from schemas.normalize.contact import met_in
from schemas.normalize.events import to_facts
from schemas.normalize.head import Record
from schemas.rows import LANE_BACKFILL, LANE_LIVE
from schemas.topics import BACKFILL, CHAT, MESSAGE, PRESENCE, ROUTES, Topic

_NOBODY = 0  # caller_id of a call whose caller is not named
_MINUTE_MS = 60_000
_NOT_SAID = -1  # color of a label that was described without one

SEEN = FactTable(
    "contacts_seen", ("contact_id",),
    (Part("greatest", ("is_me",)), Part("least", ("first_seen_at",)), Part("greatest", ("last_seen_at",))),
)  # fmt: skip
LATEST = FactTable(  # no fact of its own: what lists of chats are ordered by
    "chat_latest", ("chat_id",), (Part("greatest", ("session_id",)), Part("greatest", ("minute_at",)))
)
SETTINGS = FactTable(
    "group_settings", ("group_id", "setting", "at"), (Part("newest", ("event_id", "value")),),
    frozenset({"event_id", "value"}),
)  # fmt: skip
MEMBERS = FactTable(
    "group_members", ("group_id", "person_id", "at"), (Part("newest", ("event_id", "role", "by_jid")),),
    frozenset({"event_id", "role", "by_jid"}),
)  # fmt: skip
JOIN_REQUESTS = FactTable(
    "group_join_requests", ("group_id", "person_id", "at", "action"), (Part("newest", ("event_id", "method")),),
    frozenset({"event_id", "method"}),
)  # fmt: skip
LABELS = FactTable(
    "labels", ("session_id", "label_id"),
    (Part("newest", ("described_at", "described_event_id", "name", "color", "color_hex")),
     Part("newest", ("at", "event_id", "deleted"))),
    frozenset({"described_event_id", "name", "color_hex", "event_id"}),
)  # fmt: skip
CHAT_LABELS = FactTable(
    "chat_labels", ("chat_id", "label_id"), (Part("newest", ("at", "event_id", "carried")),), frozenset({"event_id"})
)
ARCHIVE = FactTable(
    "chat_archive", ("chat_id",), (Part("newest", ("at", "event_id", "archived")),), frozenset({"event_id"})
)
LAST_PRESENCE = FactTable(
    "presence", ("chat_id", "person_id"),
    (Part("newest", ("at", "event_id", "state")), Part("greatest", ("last_seen_at",))),
    frozenset({"event_id", "state"}),
)  # fmt: skip
PRESENCE_HISTORY = FactTable("presence_history", ("chat_id", "person_id", "at", "state"))
CALLS = FactTable(
    "calls", ("session_id", "call_id", "caller_id"),
    (*(Part("least", (c,)) for c in ("received_at", "accepted_at", "rejected_at")),
     *(Part("greatest", (c,)) for c in ("detail", "group_jid", "is_video", "is_group"))),
    frozenset({"detail", "group_jid"}),
)  # fmt: skip


def _stage_seen(fact: SeenFact, _place: Place, origin: int, ids: Ids, rows: Rows) -> None:
    contact_id, day = ids.jid(fact.session, fact.jid), to_time(fact.day_ms)
    rows.put(SEEN, (contact_id,), (contact_id, fact.is_me, day, day, origin))


def _stage_latest(fact: RankedContent, _place: Place, origin: int, ids: Ids, rows: Rows) -> None:
    content, minute_ms = fact.content, fact.content.ts_ms - fact.content.ts_ms % _MINUTE_MS
    chat_id = ids.jid(content.session, content.chat)
    rows.put(LATEST, (chat_id,), (chat_id, ids.session(content.session), to_time(minute_ms), origin))


def _stage_setting(fact: GroupFact, _place: Place, origin: int, ids: Ids, rows: Rows) -> None:
    key = (ids.jid(fact.session, fact.group), fact.setting, to_time(fact.at_ms))
    rows.put(SETTINGS, key, (*key, fact.event_id, fact.value, origin))


def _stage_member(fact: MemberFact, _place: Place, origin: int, ids: Ids, rows: Rows) -> None:
    key = (ids.jid(fact.session, fact.group), ids.jid(fact.session, fact.person), to_time(fact.at_ms))
    rows.put(MEMBERS, key, (*key, fact.event_id, fact.role, fact.by, origin))


def _stage_join_request(fact: JoinRequestFact, _place: Place, origin: int, ids: Ids, rows: Rows) -> None:
    key = (ids.jid(fact.session, fact.group), ids.jid(fact.session, fact.person), to_time(fact.at_ms), fact.action)
    rows.put(JOIN_REQUESTS, key, (*key, fact.event_id, fact.method, origin))


def _stage_label(fact: LabelFact, _place: Place, origin: int, ids: Ids, rows: Rows) -> None:
    key, at = (ids.session(fact.session), fact.label_id), to_time(fact.at_ms)
    described = not fact.deleted and (fact.name is not None or fact.color is not None)
    color = _NOT_SAID if fact.color is None else fact.color
    look = (at, fact.event_id, fact.name, color, fact.color_hex) if described else (None,) * 5
    rows.put(LABELS, key, (*key, *look, at, fact.event_id, fact.deleted, origin))


def _stage_chat_label(fact: ChatLabelFact, _place: Place, origin: int, ids: Ids, rows: Rows) -> None:
    key = (ids.jid(fact.session, fact.chat), fact.label_id)
    rows.put(CHAT_LABELS, key, (*key, to_time(fact.at_ms), fact.event_id, fact.carried, origin))


def _stage_archive(fact: ArchiveFact, _place: Place, origin: int, ids: Ids, rows: Rows) -> None:
    chat_id = ids.jid(fact.session, fact.chat)
    rows.put(ARCHIVE, (chat_id,), (chat_id, to_time(fact.at_ms), fact.event_id, fact.archived, origin))


def _stage_presence(fact: PresenceFact, _place: Place, origin: int, ids: Ids, rows: Rows) -> None:
    key = (ids.jid(fact.session, fact.chat), ids.jid(fact.session, fact.person))
    last_seen = to_time(fact.last_seen_ms) if fact.last_seen_ms is not None else None
    rows.put(LAST_PRESENCE, key, (*key, to_time(fact.at_ms), fact.event_id, fact.state, last_seen, origin))


def _stage_presence_twice(fact: PresenceFact, place: Place, origin: int, ids: Ids, rows: Rows) -> None:
    _stage_presence(fact, place, origin, ids, rows)
    key = (ids.jid(fact.session, fact.chat), ids.jid(fact.session, fact.person), to_time(fact.at_ms), fact.state)
    rows.put(PRESENCE_HISTORY, key, (*key, UNCOUNTED))


def _stage_call(fact: CallFact, _place: Place, origin: int, ids: Ids, rows: Rows) -> None:
    caller_id = ids.jid(fact.session, fact.caller) if fact.caller is not None else _NOBODY
    key, at = (ids.session(fact.session), fact.call_id, caller_id), to_time(fact.at_ms)
    times = [at if fact.state == state else None for state in ("received", "accepted", "rejected")]
    detail = fact.detail if fact.state == "rejected" else None
    rows.put(CALLS, key, (*key, *times, detail, fact.group, fact.is_video, fact.is_group, origin))


def _stage_own_other(fact: OtherFact, place: Place, origin: int, ids: Ids, rows: Rows) -> None:
    """What is left of an event about a message is kept by the messages consumer."""
    if ROUTES.get(fact.event) in (CHAT, PRESENCE):
        others.stage_other(fact, place, origin, ids, rows)


_STAGERS: dict[type, Stager] = {
    SeenFact: _stage_seen, NameFact: people.stage_name, IdentityFact: people.stage_identity, GroupFact: _stage_setting,
    MemberFact: _stage_member, JoinRequestFact: _stage_join_request, LabelFact: _stage_label,
    ChatLabelFact: _stage_chat_label, ArchiveFact: _stage_archive, PresenceFact: _stage_presence,
    CallFact: _stage_call, OtherFact: _stage_own_other, RankedContent: _stage_latest,
}  # fmt: skip


class Contacts:
    """See module."""

    name = "contacts"
    topics: tuple[Topic, ...] = (MESSAGE, CHAT, PRESENCE, BACKFILL)
    events = None  # all of them: a reaction names people too
    compared = (
        Compared(SEEN.name, SEEN.key, rising=("is_me", "last_seen_at"), ignore=("first_seen_at",)),
        Compared(LATEST.name, LATEST.key, rising=("minute_at",)),
        *people.COMPARED,
        *(Compared(t.name, t.key, ("event_id",), shown=("setting", "role", "action", "method"))
          for t in (SETTINGS, MEMBERS, JOIN_REQUESTS)),
        Compared(LABELS.name, LABELS.key, ("described_at", "described_event_id", "at", "event_id"), shown=("color_hex",)),
        *(Compared(t.name, t.key, ("at", "event_id")) for t in (CHAT_LABELS, ARCHIVE)),
        Compared(LAST_PRESENCE.name, LAST_PRESENCE.key, ("at", "event_id"), ignore=("last_seen_at",), shown=("state",)),
        Compared(CALLS.name, CALLS.key, ("received_at", "accepted_at", "rejected_at"), shown=("detail",)),
        others.COMPARED,
    )  # fmt: skip

    def __init__(self, pool: Pool, *, presence_history: bool = False) -> None:
        own: dict[type, Stager] = {PresenceFact: _stage_presence_twice} if presence_history else {}
        self._facts = FactWriter(self.name, pool, _STAGERS | own)

    def decode(self, event: Event) -> Placed:
        """See pipeline.consumer.Consumer."""
        lane = LANE_BACKFILL if event.backfill else LANE_LIVE
        facts = to_facts(event.value, Record(event.event, event.source, event.received_at_ms, lane))
        contents = [fact for fact in facts if isinstance(fact, RankedContent)]  # last: no record is counted by them
        return Placed([*(f for f in facts if not isinstance(f, RankedContent)), *met_in(facts), *contents], event.place)

    async def prepare(self, batch: list[Placed]) -> Rows:
        """See pipeline.consumer.Consumer."""
        return await self._facts.prepare(batch)

    async def stage(self, connection: Connection, rows: Rows) -> None:
        """See pipeline.consumer.Consumer."""
        await self._facts.stage(connection, rows)

    async def write(self, connection: Connection, rows: Rows) -> dict[Partition, int]:
        """See pipeline.consumer.Consumer."""
        return await self._facts.write(connection, rows)


async def main(settings: Settings) -> None:
    """Process `contacts`."""
    make = partial(Contacts, presence_history=settings.consumer.presence_history)
    await run_consumer(make, Contacts.name, settings)
