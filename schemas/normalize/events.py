"""Every event name of WAHA and the normaliser that makes facts of it. docs/events.md is made from this table."""

from __future__ import annotations

from collections.abc import Callable

from schemas.facts import Fact
from schemas.normalize.ack import to_acks
from schemas.normalize.call import to_calls
from schemas.normalize.chat import to_archives, to_chat_labels, to_labels, to_presences
from schemas.normalize.edited import to_edits
from schemas.normalize.fetched import PEOPLE_EVENT, to_people
from schemas.normalize.group import (
    to_group,
    to_join_requests,
    to_members,
    to_old_join,
    to_old_leave,
    to_own_leave,
)
from schemas.normalize.head import Record
from schemas.normalize.messages import to_messages
from schemas.normalize.other import to_others
from schemas.normalize.reaction import to_reactions
from schemas.normalize.revoked import to_revokes
from schemas.normalize.status import to_statuses
from schemas.normalize.vote import to_responses, to_votes

Normaliser = Callable[[bytes, Record], list[Fact]]

NORMALISERS: dict[str, Normaliser] = {
    "message": to_messages,
    "message.any": to_messages,
    "message.waiting": to_messages,
    "message.ack": to_acks,
    "message.ack.group": to_acks,
    "message.edited": to_edits,
    "message.revoked": to_revokes,
    "message.reaction": to_reactions,
    "poll.vote": to_votes,
    "poll.vote.failed": to_votes,
    "event.response": to_responses,
    "event.response.failed": to_responses,
    "call.received": to_calls,
    "call.accepted": to_calls,
    "call.rejected": to_calls,
    "group.v2.join": to_group,
    "group.v2.leave": to_own_leave,
    "group.v2.update": to_group,
    "group.v2.participants": to_members,
    "group.v2.participants.join-request": to_join_requests,
    "group.join": to_old_join,
    "group.leave": to_old_leave,
    "label.upsert": to_labels,
    "label.deleted": to_labels,
    "label.chat.added": to_chat_labels,
    "label.chat.deleted": to_chat_labels,
    "chat.archive": to_archives,
    "presence.update": to_presences,
    "session.status": to_statuses,
    "state.change": to_others,
    "engine.event": to_others,
}

_OWN: dict[str, Normaliser] = {PEOPLE_EVENT: to_people}  # of waha.backfill alone


def to_facts(body: bytes, record: Record) -> list[Fact]:
    """The facts of an event, at least one. Raises MalformedError (with the path of the field) when it can state none, and
    UnreadableError when the body is no JSON object. Pure: the same record gives the same facts."""
    return (NORMALISERS.get(record.event) or _OWN.get(record.event, to_others))(body, record)
