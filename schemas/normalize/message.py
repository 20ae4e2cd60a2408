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
from schemas.normalize.values import text, time_ms
from schemas.rows import ContentFact
from schemas.webhook import EngineMessage, Me, Media, Payload, ReplyTo, Webhook

EVENTS = frozenset({"message", "message.any"})
_BROWSER_ENGINES = ("WEBJS", "WPP")
_MAX_RAW_ID_CHARS = 4096
_encode = msgspec.json.Encoder().encode


def to_content(webhook: Webhook, source: str, received_at_ms: int) -> ContentFact:
    """The content fact of an event. `received_at_ms` stands in for a time that neither payload nor envelope has.

    Raises MalformedError when the message cannot be told from others: no payload, no id, no session.
    """
    payload = webhook.payload
    if type(payload) is not Payload:
        raise MalformedError("payload_missing", "payload")
    engine = text(webhook.engine)
    message_id = _message_id(payload, engine)
    sender = _sender(payload, message_id, webhook.me)
    raw = payload.data if type(payload.data) is EngineMessage else None
    proto = proto_message(raw)
    kind = message_type(payload, raw, proto)
    body = body_of(kind, payload, engine)
    details = details_of(kind, payload, proto)
    media = payload.media if type(payload.media) is Media else None
    mimetype = text(media.mimetype) if media is not None else None
    has_media = payload.hasMedia is True or media is not None
    grouped = is_group_like(message_id.chat) and not message_id.from_me
    return ContentFact(
        _session(webhook.session, source),
        message_id.chat,
        sender,
        message_id.participant,
        (sender or "") if grouped else "",
        time_ms(payload.timestamp) or time_ms(webhook.timestamp) or received_at_ms,
        message_id.from_me,
        has_media,
        message_id.raw,
        kind,
        body,
        _reply_to(payload.replyTo),
        text(payload.source),
        push_name(raw),
        mimetype,
        text(media.filename) if media is not None else None,
        text(webhook.id),
        _encode(details).decode() if details else None,
        _poverty(kind, body, has_media, mimetype),
    )


def _session(value: object, source: str) -> str:
    name = text(value)
    if name is None:
        raise MalformedError("session_missing", "session")
    if len(name) > MAX_JID_CHARS:
        raise MalformedError("session_too_long", "session")
    return qualify_session(source, name)


def _message_id(payload: Payload, engine: str | None) -> MessageId:
    """The parts of payload.id; a raw id is completed from the other fields."""
    value = text(payload.id)
    if value is None:
        raise MalformedError("message_id_missing", "payload.id")
    found = parse_message_id(value) or _from_raw_id(value, payload, engine)
    if len(found.chat) > MAX_JID_CHARS or (found.participant is not None and len(found.participant) > MAX_JID_CHARS):
        raise MalformedError("jid_too_long", "payload.id")
    if len(found.raw) > _MAX_RAW_ID_CHARS:
        raise MalformedError("message_id_too_long", "payload.id")
    return found


def _from_raw_id(value: str, payload: Payload, engine: str | None) -> MessageId:
    from_me = payload.fromMe is True
    # WEBJS and WPP name the sender in `from`, NOWEB and GOWS the chat.
    chat = text(payload.to if from_me and engine in _BROWSER_ENGINES else payload.from_)
    if chat is None or "@" not in chat:
        raise MalformedError("chat_missing", "payload.from")
    participant = text(payload.participant)
    return MessageId(from_me, normalize_jid(chat), value, normalize_jid(participant) if participant else None)


def _sender(payload: Payload, message_id: MessageId, me: object) -> str | None:
    """Who wrote it; None for an own message before WAHA knows who it is."""
    if message_id.from_me:
        jid = (text(me.id) if type(me) is Me else None) or text(payload.participant) or message_id.participant
    else:
        jid = text(payload.participant) or message_id.participant or message_id.chat
    if jid is None:
        return None
    if len(jid) > MAX_JID_CHARS:
        raise MalformedError("jid_too_long", "payload.participant")
    return normalize_jid(jid)


def _reply_to(reply: object) -> str | None:
    quoted = text(reply.id) if type(reply) is ReplyTo else None
    return raw_message_id(quoted) if quoted else None


def _poverty(kind: str, body: str | None, has_media: bool, mimetype: str | None) -> int:
    if kind in ("unknown", "waiting") and not body:
        return 2
    return 1 if has_media and mimetype is None else 0
