"""`message` and `message.any` of all engines into one ContentFact.

Who is who differs by engine in from/to/participant, so: the chat is the second part of the serialized id; the sender
is me for own messages, else the participant, else the chat. What the common body lacks (type, poll, push name)
is read from the engine's own message: NOWEB `_data.message`, GOWS `_data.Message`, WEBJS and WPP `_data.type`.
"""

from __future__ import annotations

import msgspec

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
from schemas.normalize.content import body_of, details_of, message_type, proto_message, push_name
from schemas.normalize.values import time_ms
from schemas.rows import ContentFact
from schemas.webhook import Me, Payload, Webhook

EVENTS = frozenset({"message", "message.any"})
_BROWSER_ENGINES = ("WEBJS", "WPP")
_MAX_RAW_ID_CHARS = 4096
_NOTHING_TO_SHOW = frozenset({"unknown", "waiting"})
_encode = msgspec.json.Encoder().encode


def to_content(webhook: Webhook, source: str, received_at_ms: int) -> ContentFact:
    """The content fact of an event. `received_at_ms` stands in for a time that neither payload nor envelope has.

    Raises MalformedError when the message cannot be told from others: no payload, no id, no session.
    """
    payload, engine = webhook.payload, webhook.engine
    if payload is None:
        raise MalformedError("payload_missing", "payload")
    message_id = _message_id(payload, engine)
    chat, from_me = message_id.chat, message_id.from_me
    sender = _sender(payload, message_id, webhook.me)
    raw, media, reply = payload.data, payload.media, payload.replyTo
    proto = proto_message(raw)
    kind = message_type(payload, raw, proto)
    body = body_of(kind, payload, engine)
    details = details_of(kind, payload, proto)
    mimetype = media.mimetype or None if media is not None else None
    has_media = media is not None or payload.hasMedia is True
    return ContentFact(
        _session(webhook.session, source),
        chat,
        sender,
        message_id.participant,
        (sender or "") if not from_me and is_group_like(chat) else "",
        time_ms(payload.timestamp) or time_ms(webhook.timestamp) or received_at_ms,
        from_me,
        has_media,
        message_id.raw,
        kind,
        body,
        raw_message_id(reply.id) if reply is not None and reply.id else None,
        payload.source or None,
        push_name(raw),
        mimetype,
        media.filename or None if media is not None else None,
        webhook.id or None,
        _encode(details).decode() if details is not None else None,
        _poverty(kind, body, has_media, mimetype),
    )


def _session(name: str | None, source: str) -> str:
    if not name:
        raise MalformedError("session_missing", "session")
    if len(name) > MAX_JID_CHARS:
        raise MalformedError("session_too_long", "session")
    return qualify_session(source, name)


def _message_id(payload: Payload, engine: str | None) -> MessageId:
    """The parts of payload.id; a raw id is completed from the other fields."""
    value = payload.id
    if not value:
        raise MalformedError("message_id_missing", "payload.id")
    found = parse_message_id(value) or _from_raw_id(value, payload, engine)
    if len(value) > MAX_JID_CHARS or found.raw is value:  # else no part of it can be too long
        _refuse_too_long(found)
    return found


def _refuse_too_long(found: MessageId) -> None:
    if len(found.chat) > MAX_JID_CHARS or (found.participant is not None and len(found.participant) > MAX_JID_CHARS):
        raise MalformedError("jid_too_long", "payload.id")
    if len(found.raw) > _MAX_RAW_ID_CHARS:
        raise MalformedError("message_id_too_long", "payload.id")


def _from_raw_id(value: str, payload: Payload, engine: str | None) -> MessageId:
    from_me = payload.fromMe is True
    # WEBJS and WPP name the sender in `from`, NOWEB and GOWS the chat.
    chat = payload.to if from_me and engine in _BROWSER_ENGINES else payload.from_
    if not chat or "@" not in chat:
        raise MalformedError("chat_missing", "payload.from")
    participant = payload.participant
    return MessageId(from_me, normalize_jid(chat), value, normalize_jid(participant) if participant else None)


def _sender(payload: Payload, message_id: MessageId, me: Me | None) -> str | None:
    """Who wrote it; None for an own message before WAHA knows who it is."""
    named = payload.participant or message_id.participant
    jid = ((me.id if me is not None else None) or named) if message_id.from_me else (named or message_id.chat)
    if not jid:
        return None
    if len(jid) > MAX_JID_CHARS:
        raise MalformedError("jid_too_long", "payload.participant")
    return normalize_jid(jid)


def _poverty(kind: str, body: str | None, has_media: bool, mimetype: str | None) -> int:
    if body is None and kind in _NOTHING_TO_SHOW:
        return 2
    return 1 if has_media and mimetype is None else 0
