"""Payloads of the engine NOWEB: messages and acts on them, key by key as recorded.

`from` is always the chat; `to` and `participant` stand in groups only, else they are absent.
"""

from __future__ import annotations

from collections.abc import Iterable

from producers.simulator.facts import (
    ACK_NAMES,
    Ack,
    Act,
    Edit,
    Json,
    Message,
    Reaction,
    Revoke,
    Vote,
    jid,
    media,
    serialized,
)
from producers.simulator.protos import THUMBNAIL, proto, protocol


def message(m: Message) -> Json:
    """Payload of message and message.any."""
    return _body(m, m.content.body) | {
        "hasMedia": m.content.has_media,
        "media": media(m, m.content, m.raw_id),
        "ack": m.ack,
        "ackName": ACK_NAMES[m.ack],
        "location": location(m),
        "vCards": list(m.content.vcards) or None,
        "replyTo": reply_to(m),
        "_data": _data(m, proto(m), m.ack),
    }


def reaction(r: Reaction) -> Json:
    """Payload of message.reaction: no `_data`."""
    return _base(r) | _group(r) | {"reaction": {"text": r.text, "messageId": r.target.id}}


def stored_reactions(reactions: Iterable[Reaction]) -> list[Json]:
    """`_data.reactions` of a row of the store: the keys are of the reactions' own messages."""
    return [{"key": _key(r), "text": r.text, "senderTimestampMs": str(r.at_ms), "unread": False} for r in reactions]


def edited(e: Edit) -> Json:
    """Payload of message.edited: `id` is the edit's own id."""
    change = protocol(e.target, 14) | {"editedMessage": {"conversation": e.text}, "timestampMs": str(e.at_ms)}
    return _empty(e, e.text, {"protocolMessage": change}) | {"editedMessageId": e.target.raw_id}


def revoked(r: Revoke) -> Json:
    """Payload of message.revoked: the revoked message itself is not there, only its raw id."""
    after = _empty(r, None, {"protocolMessage": protocol(r.target, 0)})
    return {"after": after, "before": None, "revokedMessageId": r.target.raw_id, "_data": after["_data"]}


def ack(a: Ack) -> Json:
    """Payload of message.ack and message.ack.group: the participant is me, the reader is in `_data` only."""
    target = a.target
    head: Json = {"id": target.id, "from": target.chat.id} | _group(target)
    tail: Json = {"fromMe": True, "ack": a.level, "ackName": ACK_NAMES[a.level]}
    if not target.chat.group:
        return head | tail
    assert a.reader
    when = {1: "receiptTimestamp", 3: "readTimestamp", 4: "playedTimestamp"}[a.level]
    receipt = {"userJid": jid(target.chat.address(a.reader)), when: a.at_ms // 1000}
    return head | tail | {"_data": {"key": _key(target), "receipt": receipt}}


def vote(v: Vote) -> Json:
    """Payload of poll.vote, and of poll.vote.failed, which says seconds: the account is the literal "me"."""
    chat = v.target.chat
    poll: Json = {"id": v.target.id, "to": chat.id, "from": "me", "fromMe": True}
    sender = chat.address(v.voter)
    cast: Json = {"id": serialized(False, chat.id, v.raw_id, sender if chat.group else None), "to": "me"}
    cast |= {"from": chat.id, "fromMe": False}
    if chat.group:
        cast |= {"to": chat.id, "from": sender, "participant": sender}
    at = v.at_ms // 1000 if v.failed else v.at_ms
    return {"vote": cast | {"selectedOptions": list(v.selected), "timestamp": at}, "poll": poll}


def location(m: Message) -> Json | None:
    """`location`, the same on NOWEB and GOWS: coordinates are strings."""
    content = m.content
    where = {"latitude": str(content.latitude), "longitude": str(content.longitude)}
    if content.kind == "live_location":
        return {"live": True} | where | {"description": content.place, "thumbnail": THUMBNAIL}
    if content.kind != "location":
        return None
    words = {"name": content.place, "address": content.text, "url": None, "description": None}
    return {"live": False} | where | words | {"thumbnail": THUMBNAIL}


def reply_to(m: Message) -> Json | None:
    """`replyTo`, the same on NOWEB and GOWS: the raw id, never the serialized one."""
    quoted = m.reply_to
    if quoted is None:
        return None
    sender = quoted.participant or (m.account.me.id if quoted.from_me else quoted.chat.id)
    return {
        "id": quoted.raw_id,
        "participant": sender,
        "body": quoted.content.text,
        "hasMedia": False,
        "media": None,
        "_data": {"conversation": quoted.content.text},
    }


def _base(act: Act) -> Json:
    source = act.source if isinstance(act, Message) else "app"
    return {
        "id": act.id,
        "timestamp": act.timestamp,
        "from": act.chat.id,
        "fromMe": act.from_me,
        "source": source,
    }


def _group(act: Act) -> Json:
    return {"to": act.chat.id, "participant": act.participant} if act.chat.group else {}


def _body(act: Act, text: str | None) -> Json:
    return _base(act) | {"body": text} | _group(act)


def _empty(act: Act, text: str | None, content: Json) -> Json:
    """A message payload around an act that is no message: an edit or a revoke."""
    level = 1 if act.from_me else 2
    return _body(act, text) | {
        "hasMedia": False,
        "media": None,
        "ack": level,
        "ackName": ACK_NAMES[level],
        "location": None,
        "vCards": None,
        "replyTo": None,
        "_data": _data(act, content, level),
    }


def _key(act: Act) -> Json:
    chat = act.chat
    key: Json = {"remoteJid": jid(chat.id), "fromMe": act.from_me, "id": act.raw_id}
    if act.participant:
        key["participant"] = jid(act.participant)
    if chat.lid and act.author and chat.group:
        key["participantAlt"] = jid(act.author.id)
    elif chat.lid and chat.peer:
        key["remoteJidAlt"] = jid(chat.peer.id)
    if chat.lid:
        key["addressingMode"] = "lid"
    return key


def _data(act: Act, content: Json, level: int) -> Json:
    return {
        "key": _key(act),
        "messageTimestamp": act.timestamp,
        "pushName": (act.author or act.account.me).name,
        "broadcast": False,
        "message": content,
        "status": level + 1,
    }
