"""`message` and `message.any` of all engines into one ContentFact.

Who is who differs by engine in from/to/participant, so: the chat is the second part of the serialized id; the sender
is me for own messages, else the participant, else the chat. What the common body lacks (type, poll, quoted message)
is read from the engine's own message: NOWEB `_data.message`, GOWS `_data.Message`, WEBJS and WPP `_data.type`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import orjson

from schemas.errors import MalformedError
from schemas.ids import (
    MAX_JID_CHARS,
    MessageId,
    is_group_like,
    normalize_jid,
    parse_message_id,
    qualify_session,
    raw_message_id,
)
from schemas.normalize.content import content_of, message_type
from schemas.normalize.values import obj, text, time
from schemas.rows import ContentFact

EVENTS = frozenset({"message", "message.any"})
_BROWSER_ENGINES = ("WEBJS", "WPP")
_MAX_RAW_ID_CHARS = 4096


def to_content(data: dict[str, Any], source: str, received_at: datetime) -> ContentFact:
    """The content fact of an event. `received_at` stands in for a time that neither payload nor envelope has.

    Raises MalformedError when the message cannot be told from others: no payload, no id, no session.
    """
    payload = data.get("payload")
    if type(payload) is not dict:
        raise MalformedError("payload_missing", "payload")
    engine = text(data.get("engine")) or ""
    message_id = _message_id(payload, engine)
    sender = _sender(payload, message_id, obj(data.get("me")))
    raw = obj(payload.get("_data"))
    kind = message_type(payload, raw)
    content = content_of(kind, payload, raw, engine)
    ts = time(payload.get("timestamp")) or time(data.get("timestamp")) or received_at
    media = obj(payload.get("media"))
    has_media = payload.get("hasMedia") is True or bool(media)
    grouped = is_group_like(message_id.chat) and not message_id.from_me
    return ContentFact(
        _session(data, source),
        message_id.chat,
        sender,
        message_id.participant,
        (sender or "") if grouped else "",
        ts,
        message_id.from_me,
        has_media,
        message_id.raw,
        kind,
        content.body,
        _reply_to(payload),
        text(payload.get("source")),
        content.push_name,
        text(media.get("mimetype")),
        text(media.get("filename")),
        text(data.get("id")),
        orjson.dumps(content.extra, option=orjson.OPT_NON_STR_KEYS).decode() if content.extra else None,
        _poverty(kind, has_media, media, content.body),
    )


def _session(data: dict[str, Any], source: str) -> str:
    name = text(data.get("session"))
    if name is None:
        raise MalformedError("session_missing", "session")
    if len(name) > MAX_JID_CHARS:
        raise MalformedError("session_too_long", "session")
    return qualify_session(source, name)


def _message_id(payload: dict[str, Any], engine: str) -> MessageId:
    """The parts of payload.id; a raw id is completed from the other fields."""
    value = text(payload.get("id"))
    if value is None:
        raise MalformedError("message_id_missing", "payload.id")
    found = parse_message_id(value) or _from_raw_id(value, payload, engine)
    if len(found.chat) > MAX_JID_CHARS or len(found.participant or "") > MAX_JID_CHARS:
        raise MalformedError("jid_too_long", "payload.id")
    if len(found.raw) > _MAX_RAW_ID_CHARS:
        raise MalformedError("message_id_too_long", "payload.id")
    return found


def _from_raw_id(value: str, payload: dict[str, Any], engine: str) -> MessageId:
    from_me = payload.get("fromMe") is True
    # WEBJS and WPP name the sender in `from`, NOWEB and GOWS the chat.
    chat = text(payload.get("to" if from_me and engine in _BROWSER_ENGINES else "from"))
    if chat is None or "@" not in chat:
        raise MalformedError("chat_missing", "payload.from")
    participant = text(payload.get("participant"))
    return MessageId(from_me, normalize_jid(chat), value, normalize_jid(participant) if participant else None)


def _sender(payload: dict[str, Any], message_id: MessageId, me: dict[str, Any]) -> str | None:
    """Who wrote it; None for an own message before WAHA knows who it is."""
    if message_id.from_me:
        jid = text(me.get("id")) or text(payload.get("participant")) or message_id.participant
    else:
        jid = text(payload.get("participant")) or message_id.participant or message_id.chat
    if jid is None:
        return None
    if len(jid) > MAX_JID_CHARS:
        raise MalformedError("jid_too_long", "payload.participant")
    return normalize_jid(jid)


def _reply_to(payload: dict[str, Any]) -> str | None:
    quoted = text(obj(payload.get("replyTo")).get("id"))
    return raw_message_id(quoted) if quoted else None


def _poverty(kind: str, has_media: bool, media: dict[str, Any], body: str | None) -> int:
    if kind in ("unknown", "waiting") and not body:
        return 2
    return 1 if has_media and not text(media.get("mimetype")) else 0
