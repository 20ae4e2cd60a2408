"""Groups: settings and members over time. `group.v2.*`, and `group.join`, `group.leave` of older configurations.

| | time | who did it | payload |
|---|---|---|---|
| group.v2.* NOWEB, GOWS | ms | `_data.author` (NOWEB), `_data.Sender` (GOWS) | normalised |
| group.v2.* WEBJS, WPP | s | not said | normalised; WEBJS tells all settings at each update |
| group.join NOWEB | envelope | not said | the engine's own metadata of the group |
| group.join, group.leave WEBJS | s | `author` | the engine's own notification; `recipientIds` are the members |

A role follows from `type`, not from `role`: NOWEB writes role admin for a demotion. A group told whole (join) lists all its
members: whoever was a member before and is not listed has left by then, and that is read from the facts, not written.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from schemas.errors import MalformedError
from schemas.facts import Fact, GroupFact, JoinRequestFact, MemberFact
from schemas.normalize.head import Body, Head, Number, Record, chat_at, head_of, jid_at
from schemas.normalize.other import remainder
from schemas.normalize.people import identity
from schemas.normalize.values import obj, text, time_ms
from schemas.reading import Reader

_ROLES = {"join": "participant", "leave": "left", "promote": "admin", "demote": "participant"}
_KNOWN_ROLES = frozenset({"left", "participant", "admin", "superadmin"})
_ACTIONS = frozenset({"created", "rejected", "revoked"})
_MAX_METHOD_CHARS = 40
_encode = msgspec.json.Encoder().encode


class _Group(Struct):
    """`group`, and NOWEB's own metadata in group.join: `desc` and `owner` stand there only."""

    id: str | dict[str, Any] | None = None
    subject: str | None = None
    description: str | None = None
    desc: str | None = None
    owner: str | None = None
    invite: str | None = None
    membersCanAddNewMember: bool | None = None
    membersCanSendMessages: bool | None = None
    newMembersApprovalRequired: bool | None = None
    participants: list[Any] | None = None


class _Data(Struct, gc=False):
    author: str | None = None  # NOWEB
    participants: list[Any] | None = None  # NOWEB: {id, phoneNumber}
    Sender: str | None = None  # GOWS


class _Payload(_Group, rename={"data": "_data"}):
    group: _Group | None = None
    type: str | None = None
    timestamp: Number = None
    data: _Data | None = None
    action: str | None = None
    requesterId: str | None = None
    requesterPn: str | None = None
    requestMethod: str | None = None
    chatId: str | None = None
    author: str | None = None
    recipientIds: list[Any] | None = None


class _Body(Body):
    payload: _Payload | None = None


_read = Reader(_Body)


class _Told(Struct, frozen=True):
    """What all facts of one event share."""

    head: Head
    group: str
    by: str | None
    at_ms: int


def _open(body: bytes, record: Record) -> tuple[_Told, _Payload]:
    event = _read(body)
    head, payload = head_of(event, record), event.payload
    if payload is None:
        raise MalformedError("payload_missing", "payload")
    group, path = (payload.group or _Group()).id, "payload.group.id"
    if payload.group is None:  # the older events
        group, path = payload.chatId or payload.id, "payload.id"
    by = payload.author or (payload.data.author or payload.data.Sender if payload.data is not None else None)
    at_ms = time_ms(payload.timestamp) or head.at_ms
    return _Told(head, chat_at(text(group), path), jid_at(by, "payload._data.author"), at_ms), payload


def to_group(body: bytes, record: Record) -> list[Fact]:
    """`group.v2.join` and `group.v2.update`: settings, and the members where they are listed."""
    told, payload = _open(body, record)
    group = payload.group or payload
    # An update of NOWEB, GOWS and WPP tells what changed, so that its members would be some; elsewhere it is all of them.
    whole = record.event != "group.v2.update" or told.head.engine == "WEBJS"
    facts = _settings(told, group) + _members(told, group.participants, "payload.group.participants", whole=whole)
    if _unread(group.participants, facts):
        facts += remainder(body, record)
    return facts or remainder(body, record)


def to_own_leave(body: bytes, record: Record) -> list[Fact]:
    """`group.v2.leave`: the account itself is out. Before it is known who that is, the event is kept whole."""
    told, _ = _open(body, record)
    head = told.head
    if not head.me:
        return remainder(body, record)
    return [MemberFact(head.session, told.group, head.me[0], "left", told.by, told.at_ms, head.event_id)]


def to_members(body: bytes, record: Record) -> list[Fact]:
    """`group.v2.participants`: those whose role changed. Raises MalformedError when nobody can be read."""
    told, payload = _open(body, record)
    role = _ROLES.get(payload.type or "")
    facts = _members(told, payload.participants, "payload.participants", role=role)
    if not facts:
        raise MalformedError("participants_missing", "payload.participants")
    for item in (payload.data.participants if payload.data is not None else None) or []:
        member = obj(item)
        facts += identity(
            told.head.session, text(member.get("id")), text(member.get("phoneNumber")), "group", told.at_ms
        )
    return facts + (remainder(body, record) if _unread(payload.participants, facts) else [])


def to_join_requests(body: bytes, record: Record) -> list[Fact]:
    """`group.v2.participants.join-request`. Raises MalformedError without a known action or requester."""
    told, payload = _open(body, record)
    head, person = told.head, jid_at(payload.requesterId, "payload.requesterId")
    if person is None:
        raise MalformedError("requester_missing", "payload.requesterId")
    if payload.action not in _ACTIONS:
        raise MalformedError("action_unknown", "payload.action")
    method = (payload.requestMethod or "")[:_MAX_METHOD_CHARS] or None
    fact = JoinRequestFact(head.session, told.group, person, payload.action, method, told.at_ms, head.event_id)
    return [fact, *identity(head.session, person, payload.requesterPn, "request", told.at_ms)]


def to_old_join(body: bytes, record: Record) -> list[Fact]:
    """`group.join`: NOWEB tells the group as it is, WEBJS who was added."""
    if _is_notification(body):
        return _notified(body, record, "participant")
    return to_group(body, record)


def to_old_leave(body: bytes, record: Record) -> list[Fact]:
    """`group.leave` (WEBJS): who is out."""
    return _notified(body, record, "left")


def _is_notification(body: bytes) -> bool:
    payload = _read(body).payload
    return payload is not None and payload.recipientIds is not None


def _notified(body: bytes, record: Record, role: str) -> list[Fact]:
    told, payload = _open(body, record)
    people = [{"id": person} for person in payload.recipientIds or []]
    facts = _members(told, people, "payload.recipientIds", role=role)
    return facts + (remainder(body, record) if not facts or _unread(people, facts) else [])


def _settings(told: _Told, group: _Group) -> list[Fact]:
    owner = jid_at(group.owner, "payload.owner")
    values: dict[str, str | bool | None] = {
        "subject": group.subject,
        "description": group.description if group.description is not None else group.desc,
        "invite": group.invite or None,
        "owner": owner,
        "members_can_add": group.membersCanAddNewMember,
        "members_can_send": group.membersCanSendMessages,
        "approval": group.newMembersApprovalRequired,
    }
    return [_setting(told, name, value) for name, value in values.items() if value is not None]


def _setting(told: _Told, name: str, value: str | bool | int) -> GroupFact:
    head = told.head
    return GroupFact(head.session, told.group, name, _encode(value).decode(), told.at_ms, head.event_id)


def _members(
    told: _Told, people: list[Any] | None, path: str, *, role: str | None = None, whole: bool = False
) -> list[Fact]:
    """A MemberFact a person, the identities that stand beside, and that the list was whole."""
    facts: list[Fact] = []
    head, count = told.head, 0
    for place, item in enumerate(people or []):
        member = obj(item)
        person = jid_at(text(member.get("id")), f"{path}[{place}].id")
        its_role = role or _role(member)
        if person is None or its_role is None:
            continue
        count += 1
        facts.append(MemberFact(head.session, told.group, person, its_role, told.by, told.at_ms, head.event_id))
        facts += identity(
            head.session, person, text(member.get("pn")) or text(member.get("phoneNumber")), "group", told.at_ms
        )
    if whole and count and count == len(people or []):
        facts.append(_setting(told, "member_list", count))
    return facts


def _role(member: dict[str, Any]) -> str | None:
    """`role`; in NOWEB's own metadata `admin` is null, "admin" or "superadmin"."""
    role = text(member.get("role")) or (text(member.get("admin")) or "participant" if "admin" in member else None)
    return role if role in _KNOWN_ROLES else None


def _unread(people: list[Any] | None, facts: list[Fact]) -> bool:
    return sum(type(f) is MemberFact for f in facts) < len(people or [])
