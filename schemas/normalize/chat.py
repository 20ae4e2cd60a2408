"""What a chat is: `chat.archive`, `label.upsert`, `label.deleted`, `label.chat.added`, `label.chat.deleted`, `presence.update`.

The engines say these alike; only WPP knows the label in `label.chat.*`. Labels and presence have no time of their own: the
envelope's stands for it. A deleted label has no name any more.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from schemas.errors import MalformedError
from schemas.facts import ArchiveFact, ChatLabelFact, Fact, LabelFact, PresenceFact
from schemas.normalize.head import Body, Head, Number, Record, chat_at, head_of, jid_at, name_at
from schemas.normalize.other import remainder
from schemas.normalize.values import count, obj, text, time_ms
from schemas.reading import Reader

_MAX_COLOR = 2**31 - 1


class _Label(Struct, gc=False):
    id: str | int | None = None
    name: str | None = None
    color: Number = None
    colorHex: str | None = None


class _Payload(_Label):
    chatId: str | None = None
    labelId: str | int | None = None
    label: _Label | None = None
    archived: bool | None = None
    timestamp: Number = None
    presences: list[Any] | None = None


class _Body(Body):
    payload: _Payload | None = None


_read = Reader(_Body)


def _open(body: bytes, record: Record) -> tuple[Head, _Payload]:
    event = _read(body)
    if event.payload is None:
        raise MalformedError("payload_missing", "payload")
    return head_of(event, record), event.payload


def to_archives(body: bytes, record: Record) -> list[Fact]:
    """One ArchiveFact. Raises MalformedError without chat or `archived`."""
    head, payload = _open(body, record)
    if payload.archived is None:
        raise MalformedError("archived_missing", "payload.archived")
    chat = chat_at(_text(payload.id), "payload.id")
    return [ArchiveFact(head.session, chat, payload.archived, time_ms(payload.timestamp) or head.at_ms, head.event_id)]


def to_labels(body: bytes, record: Record) -> list[Fact]:
    """One LabelFact. Raises MalformedError without the label's id."""
    head, payload = _open(body, record)
    return [_label(payload, "payload.id", head, deleted=record.event == "label.deleted")]


def to_chat_labels(body: bytes, record: Record) -> list[Fact]:
    """A ChatLabelFact, and on WPP the label itself. Raises MalformedError without chat or label."""
    head, payload = _open(body, record)
    chat = chat_at(payload.chatId, "payload.chatId")
    label_id = name_at(_text(payload.labelId), "payload.labelId", "label_id")
    carried = record.event == "label.chat.added"
    facts: list[Fact] = [ChatLabelFact(head.session, chat, label_id, carried, head.at_ms, head.event_id)]
    if payload.label is not None and payload.label.id:
        facts.append(_label(payload.label, "payload.label.id", head, deleted=False))
    return facts


def _label(label: _Label, path: str, head: Head, *, deleted: bool) -> LabelFact:
    color = count(label.color)
    return LabelFact(
        head.session, name_at(_text(label.id), path, "label_id"), deleted, label.name or None,
        color if color is not None and color <= _MAX_COLOR else None, label.colorHex or None, head.at_ms, head.event_id,
    )  # fmt: skip


def _text(value: str | int | None) -> str | None:
    return str(value) if isinstance(value, int) else value


def to_presences(body: bytes, record: Record) -> list[Fact]:
    """A PresenceFact a person. Raises MalformedError without chat, or when nobody can be read; when some cannot, the whole
    event is kept beside the others."""
    head, payload = _open(body, record)
    chat = chat_at(_text(payload.id), "payload.id")
    told = payload.presences or []
    found = [f for n, item in enumerate(told) if (f := _presence(obj(item), n, chat, head)) is not None]
    if not found:
        raise MalformedError("presence_missing", "payload.presences")
    return [*found, *(remainder(body, record) if len(found) < len(told) else ())]


def _presence(item: dict[str, Any], place: int, chat: str, head: Head) -> Fact | None:
    person = jid_at(text(item.get("participant")), f"payload.presences[{place}].participant")
    state = text(item.get("lastKnownPresence"))
    if person is None or state is None or len(state) > 40:
        return None
    last_seen_ms = time_ms(item.get("lastSeen"))
    return PresenceFact(head.session, chat, person, state, last_seen_ms, head.at_ms, head.event_id)
