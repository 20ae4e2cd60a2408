"""What is stored: one row a key, and how a fact joins the row that is there.

Every join is made of least, greatest, "the one with the greatest order" and set union, so it is commutative, associative and
idempotent, and so is the whole: whatever the order, the doubles and the batches, the same facts give the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any

from schemas.facts import (
    AckFact,
    ArchiveFact,
    CallFact,
    ChatLabelFact,
    EditFact,
    Fact,
    GroupFact,
    IdentityFact,
    JoinRequestFact,
    LabelFact,
    MemberFact,
    NameFact,
    OtherFact,
    PresenceFact,
    RankedContent,
    ReactionFact,
    ResponseFact,
    RevokeFact,
    SeenFact,
    StatusFact,
    VersionFact,
    VoteFact,
    ack_rank,
)
from schemas.keys import ME
from schemas.normalize.session import account_order, state_order
from schemas.rows import SessionFact

MessageKey = tuple[str, str, str, str | None]  # session, chat, raw id, author
Key = tuple[Any, ...]
Times = tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class ContentRow:
    """The content shown, and when any content of the message was received first."""

    shown: RankedContent
    first_ms: int


@dataclass(frozen=True, slots=True)
class AckRow:
    """How far a message came with one recipient: `rank` as ack_rank, and when each rank was reached first."""

    rank: int
    times: Times  # by rank; None: not reached, or nobody said when


@dataclass(frozen=True, slots=True)
class RevokeRow:
    """The first time that somebody took a message back."""

    at_ms: int
    event_id: str
    text_before: str | None


@dataclass(frozen=True, slots=True)
class AnswerRow:
    """A person's last readable answer (a vote's options, or a response and guests) and his last unreadable one."""

    answer: tuple[int, str, tuple[Any, ...]] | None  # at_ms, event_id, what
    failed_ms: int | None


@dataclass(frozen=True, slots=True)
class CallRow:
    """A call's states, each with the first time it was told."""

    received_ms: int | None
    accepted_ms: int | None
    rejected_ms: int | None
    detail: str | None  # of the rejection
    group: str | None
    is_video: bool
    is_group: bool


@dataclass(frozen=True, slots=True)
class LabelRow:
    """A label's newest description, and whether it is there."""

    look: tuple[int, str, str, int, str] | None  # at_ms, event_id, name, color, hex; of facts that describe it
    state: tuple[int, str, bool]  # at_ms, event_id, deleted


@dataclass(frozen=True, slots=True)
class PresenceRow:
    """The newest state, and the newest "last seen"."""

    state: tuple[int, str, str]  # at_ms, event_id, state
    last_seen_ms: int | None


@dataclass(frozen=True, slots=True)
class SessionRow:
    """The newest state, and the newest account that was named."""

    state: tuple[datetime, str, str, str]  # at, status, engine, version
    account: tuple[datetime, str, str, str] | None  # at, id, lid, push name


Span = tuple[int, int]  # first and last time


@dataclass(slots=True)
class Stored:
    """The tables. Every row is a value that only joins change."""

    contents: dict[Key, ContentRow] = field(default_factory=dict)
    acks: dict[Key, AckRow] = field(default_factory=dict)  # message key, recipient
    edits: dict[Key, EditFact] = field(default_factory=dict)  # message key, edit id
    revokes: dict[Key, RevokeRow] = field(default_factory=dict)  # message key, by
    reactions: dict[Key, tuple[int, str, str]] = field(default_factory=dict)  # message key, by -> at, event id, emoji
    votes: dict[Key, AnswerRow] = field(default_factory=dict)  # message key, voter
    responses: dict[Key, AnswerRow] = field(default_factory=dict)  # message key, by
    calls: dict[Key, CallRow] = field(default_factory=dict)  # session, call id, caller
    settings: dict[Key, tuple[str, str]] = field(default_factory=dict)  # session, group, setting, at -> event id, value
    members: dict[Key, tuple[str, str, str]] = field(default_factory=dict)  # …, person, at -> event id, role, by
    join_requests: dict[Key, tuple[str, str]] = field(default_factory=dict)  # …, person, at, action -> event id, method
    labels: dict[Key, LabelRow] = field(default_factory=dict)  # session, label
    chat_labels: dict[Key, tuple[int, str, bool]] = field(default_factory=dict)  # session, chat, label
    archived: dict[Key, tuple[int, str, bool]] = field(default_factory=dict)  # session, chat
    presence: dict[Key, PresenceRow] = field(default_factory=dict)  # session, chat, person
    sessions: dict[Key, SessionRow] = field(default_factory=dict)
    statuses: dict[Key, None] = field(default_factory=dict)  # session, status, at
    versions: dict[Key, Span] = field(default_factory=dict)  # session, engine, version
    identities: dict[Key, tuple[int, bool, str]] = field(
        default_factory=dict
    )  # session, lid, phone -> at, FALLEN, source
    names: dict[Key, Span] = field(default_factory=dict)  # session, person, source, name
    seen: dict[Key, tuple[bool, Span]] = field(default_factory=dict)  # session, jid -> is me, days
    others: dict[Key, OtherFact] = field(default_factory=dict)  # session, event, event id or body


def merge(facts: Iterable[Fact]) -> Stored:
    """The rows of a set of facts."""
    stored = Stored()
    for fact in facts:
        table, key, row = _ROWS[type(fact)](fact)
        _put(getattr(stored, table), table, key, row)
    return stored


def join(one: Stored, other: Stored) -> Stored:
    """The rows of both sets of facts: merge(a + b) = join(merge(a), merge(b))."""
    both = Stored()
    for stored in (one, other):
        for table in fields(Stored):
            for key, row in getattr(stored, table.name).items():
                _put(getattr(both, table.name), table.name, key, row)
    return both


def _put(rows: dict[Key, Any], table: str, key: Key, row: Any) -> None:
    rows[key] = _JOINS.get(table, max)(rows[key], row) if key in rows else row


# ---------------------------------------------------------------- a fact's table, key and row
Row = tuple[str, Key, Any]


def author_of(fact: RankedContent) -> str:
    """The author as keys have him."""
    return ME if fact.content.from_me else fact.content.key_sender


def _message(fact: AckFact | EditFact | RevokeFact | ReactionFact | VoteFact | ResponseFact) -> MessageKey:
    return fact.session, fact.chat, fact.raw_id, fact.author


def _content(fact: RankedContent) -> Row:
    content = fact.content
    return (
        "contents",
        (content.session, content.chat, content.raw_id, author_of(fact)),
        ContentRow(fact, fact.received_at_ms),
    )


def _ack(fact: AckFact) -> Row:
    rank = ack_rank(fact.level)
    times = tuple(fact.at_ms if n == rank else None for n in range(6))
    return "acks", (*_message(fact), fact.recipient), AckRow(rank, times)


def _revoke(fact: RevokeFact) -> Row:
    return "revokes", (*_message(fact), fact.by), RevokeRow(fact.at_ms, fact.event_id, fact.text_before)


def _reaction(fact: ReactionFact) -> Row:
    return "reactions", (*_message(fact), fact.by), (fact.at_ms, fact.event_id, fact.emoji)


def _answer(at_ms: int, event_id: str, failed: bool, what: tuple[Any, ...]) -> AnswerRow:
    return AnswerRow(None, at_ms) if failed else AnswerRow((at_ms, event_id, what), None)


def _vote(fact: VoteFact) -> Row:
    return "votes", (*_message(fact), fact.voter), _answer(fact.at_ms, fact.event_id, fact.failed, fact.options)


def _response(fact: ResponseFact) -> Row:
    what = (fact.response or "", fact.guests)
    return "responses", (*_message(fact), fact.by), _answer(fact.at_ms, fact.event_id, fact.failed, what)


def _call(fact: CallFact) -> Row:
    received, accepted, rejected = (
        fact.at_ms if fact.state == s else None for s in ("received", "accepted", "rejected")
    )
    detail = fact.detail if rejected is not None else None
    row = CallRow(received, accepted, rejected, detail, fact.group, fact.is_video, fact.is_group)
    return "calls", (fact.session, fact.call_id, fact.caller), row


def _setting(fact: GroupFact) -> Row:
    return "settings", (fact.session, fact.group, fact.setting, fact.at_ms), (fact.event_id, fact.value)


def _member(fact: MemberFact) -> Row:
    return "members", (fact.session, fact.group, fact.person, fact.at_ms), (fact.event_id, fact.role, fact.by or "")


def _join_request(fact: JoinRequestFact) -> Row:
    key = (fact.session, fact.group, fact.person, fact.at_ms, fact.action)
    return "join_requests", key, (fact.event_id, fact.method or "")


def _label(fact: LabelFact) -> Row:
    described = not fact.deleted and (fact.name is not None or fact.color is not None)
    color = -1 if fact.color is None else fact.color
    look = (fact.at_ms, fact.event_id, fact.name or "", color, fact.color_hex or "") if described else None
    return "labels", (fact.session, fact.label_id), LabelRow(look, (fact.at_ms, fact.event_id, fact.deleted))


def _chat_label(fact: ChatLabelFact) -> Row:
    return "chat_labels", (fact.session, fact.chat, fact.label_id), (fact.at_ms, fact.event_id, fact.carried)


def _archive(fact: ArchiveFact) -> Row:
    return "archived", (fact.session, fact.chat), (fact.at_ms, fact.event_id, fact.archived)


def _presence(fact: PresenceFact) -> Row:
    row = PresenceRow((fact.at_ms, fact.event_id, fact.state), fact.last_seen_ms)
    return "presence", (fact.session, fact.chat, fact.person), row


def _session(fact: SessionFact) -> Row:
    return "sessions", (fact.name,), SessionRow(state_order(fact), account_order(fact) if fact.me is not None else None)


def _identity(fact: IdentityFact) -> Row:
    # Of one hour, "no longer" wins: what every message says again would bring it back at once.
    return "identities", (fact.session, fact.lid, fact.phone), (fact.at_ms, not fact.holds, fact.source)


def _other(fact: OtherFact) -> Row:
    return "others", (fact.session, fact.event, fact.event_id or fact.body), fact


_ROWS: dict[type, Callable[[Any], Row]] = {
    RankedContent: _content,
    AckFact: _ack,
    EditFact: lambda f: ("edits", (*_message(f), f.edit_id), f),
    RevokeFact: _revoke,
    ReactionFact: _reaction,
    VoteFact: _vote,
    ResponseFact: _response,
    CallFact: _call,
    GroupFact: _setting,
    MemberFact: _member,
    JoinRequestFact: _join_request,
    LabelFact: _label,
    ChatLabelFact: _chat_label,
    ArchiveFact: _archive,
    PresenceFact: _presence,
    SessionFact: _session,
    StatusFact: lambda f: ("statuses", (f.session, f.status, f.at_ms), None),
    VersionFact: lambda f: ("versions", (f.session, f.engine, f.version), (f.at_ms, f.at_ms)),
    IdentityFact: _identity,
    NameFact: lambda f: ("names", (f.session, f.person, f.source, f.name), (f.at_ms, f.at_ms)),
    SeenFact: lambda f: ("seen", (f.session, f.jid), (f.is_me, (f.day_ms, f.day_ms))),
    OtherFact: _other,
}


# ---------------------------------------------------------------- how two rows of one key become one
def least(one: Any, other: Any) -> Any:
    """The lesser of two values; what is missing counts for nothing. SQL: least()."""
    return one if other is None else other if one is None else min(one, other)


def greatest(one: Any, other: Any) -> Any:
    """The greater of two values; what is missing counts for nothing. SQL: greatest()."""
    return one if other is None else other if one is None else max(one, other)


def edit_order(fact: EditFact) -> tuple[bool, int, str, str, str]:
    """Of one edit told twice the row with the least order stays: readable before not, then the earliest."""
    return fact.text is None, fact.at_ms, fact.event_id, fact.text or "", fact.text_before or ""


def join_contents(one: ContentRow, other: ContentRow) -> ContentRow:
    """The contents of one message: the lowest rank is shown."""
    shown = min(one.shown, other.shown, key=lambda f: f.rank)
    return ContentRow(shown, min(one.first_ms, other.first_ms))


def _join_acks(one: AckRow, other: AckRow) -> AckRow:
    times = tuple(least(a, b) for a, b in zip(one.times, other.times, strict=True))
    return AckRow(max(one.rank, other.rank), times)


def _join_revokes(one: RevokeRow, other: RevokeRow) -> RevokeRow:
    first = min(one, other, key=lambda r: (r.at_ms, r.event_id))
    return replace(first, text_before=greatest(one.text_before, other.text_before))


def _join_answers(one: AnswerRow, other: AnswerRow) -> AnswerRow:
    return AnswerRow(greatest(one.answer, other.answer), greatest(one.failed_ms, other.failed_ms))


def join_calls(one: CallRow, other: CallRow) -> CallRow:
    """The states of one call."""
    return CallRow(
        least(one.received_ms, other.received_ms),
        least(one.accepted_ms, other.accepted_ms),
        least(one.rejected_ms, other.rejected_ms),
        greatest(one.detail, other.detail),
        greatest(one.group, other.group),
        one.is_video or other.is_video,
        one.is_group or other.is_group,
    )


def _join_labels(one: LabelRow, other: LabelRow) -> LabelRow:
    return LabelRow(greatest(one.look, other.look), max(one.state, other.state))


def _join_presence(one: PresenceRow, other: PresenceRow) -> PresenceRow:
    return PresenceRow(max(one.state, other.state), greatest(one.last_seen_ms, other.last_seen_ms))


def _join_sessions(one: SessionRow, other: SessionRow) -> SessionRow:
    return SessionRow(max(one.state, other.state), greatest(one.account, other.account))


def _join_spans(one: Span, other: Span) -> Span:
    return min(one[0], other[0]), max(one[1], other[1])


def _other_order(fact: OtherFact) -> tuple[int, str, str, str]:
    return fact.at_ms, fact.body, fact.engine or "", fact.chat or ""


# Tables that are not named here keep the greatest of two rows.
_JOINS: dict[str, Callable[[Any, Any], Any]] = {
    "contents": join_contents,
    "acks": _join_acks,
    "edits": lambda a, b: min(a, b, key=edit_order),
    "revokes": _join_revokes,
    "votes": _join_answers,
    "responses": _join_answers,
    "calls": join_calls,
    "labels": _join_labels,
    "presence": _join_presence,
    "sessions": _join_sessions,
    "statuses": lambda a, _: a,
    "versions": _join_spans,
    "names": _join_spans,
    "seen": lambda a, b: (a[0] or b[0], _join_spans(a[1], b[1])),
    "others": lambda a, b: min(a, b, key=_other_order),
}
