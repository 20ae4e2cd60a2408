"""Payloads of the engine WEBJS: messages and acts on them, key by key.

`from` and `to` are really sender and receiver; `participant` and `replyTo` are absent when there is none; an
empty body is "" and an empty list of vCards is [].
"""

from __future__ import annotations

import base64

from producers.simulator.facts import (
    ACK_NAMES,
    MEDIA_TYPES,
    Ack,
    Act,
    Edit,
    Json,
    Message,
    Reaction,
    Revoke,
    Vote,
    media,
    serialized,
)
from producers.simulator.files import digest_of, sound_of
from producers.simulator.protos import THUMBNAIL

_TYPES = {
    "text": "chat", "voice": "ptt", "live_location": "location", "poll": "poll_creation",
}  # fmt: skip


def message(m: Message) -> Json:
    """Payload of message and message.any."""
    return _message(m, m.ack)


def waiting(m: Message) -> Json:
    """Payload of message.waiting: the text is not decrypted yet."""
    return _empty(m, "", "ciphertext")


def reaction(r: Reaction) -> Json:
    """Payload of message.reaction: the time is a float."""
    sender = r.participant or (r.account.me.id if r.from_me else r.chat.id)
    return {
        "id": r.id,
        "timestamp": r.at_ms / 1000 if r.at_ms % 1000 else r.timestamp,
        "from": r.chat.id,
        "fromMe": r.from_me,
        "source": "app",
        "participant": sender,
        "to": sender,
        "reaction": {"text": r.text, "messageId": r.target.id},
    }


def edited(e: Edit) -> Json:
    """Payload of message.edited: the original's id, the old text in `_data`."""
    payload = _message(e.target, e.target.ack) | {"body": e.text}
    payload["_data"] = {"message": {}, "newBody": e.text, "prevBody": e.target.content.text or ""}
    return payload | {"editedMessageId": e.target.raw_id}


def revoked(r: Revoke) -> Json:
    """Payload of message.revoked: the message before is in it."""
    after = _empty(r, "", "revoked")
    key = {"fromMe": r.target.from_me, "remote": r.chat.id, "id": r.target.raw_id}
    after["_data"]["protocolMessageKey"] = key
    return {"after": after, "before": _message(r.target, r.target.ack), "revokedMessageId": r.target.raw_id}


def ack(a: Ack) -> Json:
    """Payload of message.ack (a whole message) and message.ack.group (`fromMe` inverted, as WAHA does)."""
    chat = a.target.chat
    if not chat.group:
        return _message(a.target, a.level)
    assert a.reader
    return {
        "id": a.target.id,
        "from": chat.id,
        "to": chat.id,
        "participant": chat.address(a.reader),
        "fromMe": False,
        "ack": a.level,
        "ackName": ACK_NAMES[a.level],
        "_data": {},
    }


def vote(v: Vote) -> Json:
    """Payload of poll.vote: its id is built from the poll's raw id."""
    chat, me, voter = v.target.chat, v.target.account.me, v.target.chat.address(v.voter)
    poll: Json = {"id": v.target.id, "to": chat.id, "from": me.id, "fromMe": True}
    vote_id = serialized(False, chat.id, v.target.raw_id, voter if chat.group else None)
    cast: Json = {"id": vote_id, "to": chat.id, "from": voter, "fromMe": False}
    return {
        "poll": poll,
        "vote": cast | {"selectedOptions": list(v.selected), "timestamp": v.at_ms},
        "_data": {},
    }


def _message(m: Message, level: int) -> Json:
    content = m.content
    out = _head(m) | {
        "body": _text(m),
        "hasMedia": content.has_media,
        "media": media(m, content, m.id),
        "ack": level,
        "ackName": ACK_NAMES[level],
        "location": _location(m),
        "vCards": list(content.vcards),
    }
    if m.reply_to:
        out["replyTo"] = _reply_to(m.reply_to)
    type_ = "multi_vcard" if len(content.vcards) > 1 else _TYPES.get(content.kind, content.kind)
    return out | {"_data": _data(m, _text(m), type_, level) | _file_fields(m)}


def _file_fields(m: Message) -> Json:
    """What WhatsApp Web knows of a file; {} without one."""
    if not m.content.has_media:
        return {}
    kind = m.content.kind
    size, digest = digest_of(m.raw_id, kind)
    out: Json = {"mimetype": MEDIA_TYPES[kind][0], "size": size, "filehash": base64.b64encode(digest).decode()}
    if kind == "voice":
        seconds, heights = sound_of(m.raw_id, kind)
        out |= {"duration": str(seconds), "waveform": {str(n): height for n, height in enumerate(heights)}}
    return out


def _text(m: Message) -> str:
    """The body as WhatsApp Web has it: thumbnail of a location, text of one vCard, question of a poll."""
    content = m.content
    if content.kind in ("location", "live_location"):
        return THUMBNAIL
    if content.kind == "vcard":
        return content.vcards[0] if len(content.vcards) == 1 else ""
    return content.text or ""


def _location(m: Message) -> Json | None:
    content = m.content
    if content.kind not in ("location", "live_location"):
        return None
    return {
        "live": content.kind == "live_location",
        "latitude": content.latitude,
        "longitude": content.longitude,
        "name": content.place,
        "address": content.text,
        "description": "",
        "url": None,
        "thumbnail": THUMBNAIL,
    }


def _reply_to(quoted: Message) -> Json:
    sender = quoted.participant or (quoted.account.me.id if quoted.from_me else quoted.chat.id)
    return {
        "id": quoted.raw_id,
        "participant": sender,
        "body": quoted.content.text,
        "hasMedia": False,
        "media": None,
        "_data": {"body": quoted.content.text, "type": "chat"},
    }


def _ends(act: Act) -> tuple[str, str]:
    """Sender and receiver of what `act` sent."""
    me = act.account.me.id
    return (me, act.chat.id) if act.from_me else (act.chat.id, me)


def _head(act: Act) -> Json:
    sender, receiver = _ends(act)
    out: Json = {"id": act.id, "timestamp": act.timestamp, "from": sender, "fromMe": act.from_me}
    if act.participant:
        out["participant"] = act.participant
    source = act.source if isinstance(act, Message) else "app"
    return out | {"source": source, "to": receiver}


def _empty(act: Act, text: str, type_: str) -> Json:
    """A message payload around an act that has no content."""
    return _head(act) | {
        "body": text,
        "hasMedia": False,
        "media": None,
        "ack": 1,
        "ackName": "SERVER",
        "location": None,
        "vCards": [],
        "_data": _data(act, text, type_, 1),
    }


def _data(act: Act, text: str, type_: str, level: int) -> Json:
    sender, receiver = _ends(act)
    key: Json = {"fromMe": act.from_me, "remote": act.chat.id, "id": act.raw_id, "_serialized": act.id}
    if act.participant:
        key["participant"] = act.participant
    out: Json = {
        "id": key,
        "viewed": False,
        "body": text,
        "type": type_,
        "t": act.timestamp,
        "notifyName": (act.author or act.account.me).name,
        "from": sender,
        "to": receiver,
        "ack": level,
        "isNewMsg": True,
        "star": False,
    }
    if act.participant:
        out["author"] = act.participant
    return out
