"""Payloads of the engine GOWS: messages and acts on them, key by key.

`from` is always the chat; `to` and `participant` are always there: null in a direct chat, both the sender in
a group.
"""

from __future__ import annotations

from datetime import UTC, datetime

from producers.simulator.facts import (
    ACK_NAMES,
    Ack,
    Act,
    Edit,
    Json,
    Message,
    Reaction,
    Response,
    Revoke,
    Vote,
    jid,
    media,
    serialized,
)
from producers.simulator.payloads_noweb import location, reply_to
from producers.simulator.protos import proto, protocol

_MEDIA_NAMES = {"voice": "ptt", "live_location": "livelocation"}
_RECEIPTS = {-1: "server-error", 2: "", 3: "read", 4: "played"}


def message(m: Message) -> Json:
    """Payload of message and message.any."""
    kind = m.content.kind
    type_ = kind if kind in ("text", "poll", "event") else "media"
    media_name = "" if type_ == "text" else _MEDIA_NAMES.get(kind, kind)
    return _base(m) | {"body": m.content.body} | _sender(m) | {
        "hasMedia": m.content.has_media,
        "media": media(m, m.content, m.raw_id),
        "ack": m.ack,
        "location": location(m),
        "vCards": list(m.content.vcards) or None,
        "ackName": ACK_NAMES[m.ack],
        "replyTo": reply_to(m),
        "_data": _data(m, proto(m), m.ack, type_, media_name),
    }  # fmt: skip


def reaction(r: Reaction) -> Json:
    """Payload of message.reaction: no `_data`."""
    return _base(r) | _sender(r) | {"reaction": {"text": r.text, "messageId": r.target.id}}


def edited(e: Edit) -> Json:
    """Payload of message.edited: `id` is the edit's own id."""
    change = protocol(e.target, 14) | {"editedMessage": {"conversation": e.text}, "timestampMS": e.at_ms}
    return _empty(e, e.text, {"protocolMessage": change}) | {"editedMessageId": e.target.raw_id}


def revoked(r: Revoke) -> Json:
    """Payload of message.revoked: the revoked message itself is not there, only its raw id."""
    after = _empty(r, None, {"protocolMessage": protocol(r.target, 0)})
    return {"after": after, "before": None, "revokedMessageId": r.target.raw_id, "_data": after["_data"]}


def ack(a: Ack) -> Json:
    """Payload of message.ack and message.ack.group: the participant is who received or read it."""
    chat = a.target.chat
    reader = chat.address(a.reader) if chat.group and a.reader else None
    return {
        "id": a.target.id,
        "from": chat.id,
        "to": reader,
        "participant": reader,
        "fromMe": True,
        "ack": a.level,
        "ackName": ACK_NAMES[a.level],
        "_data": {
            "Type": _RECEIPTS[a.level],
            "MessageIDs": [a.target.raw_id],
            "Timestamp": _iso(a.at_ms),
        },
    }


def vote(v: Vote) -> Json:
    """Payload of poll.vote and poll.vote.failed: the poll first, times in milliseconds."""
    chat, me = v.target.chat, v.target.account.me
    sender = chat.address(v.voter) if chat.group else None
    poll: Json = {"id": v.target.id, "to": chat.id, "from": me.id if chat.group else "me", "fromMe": True}
    cast: Json = {"id": serialized(False, chat.id, v.raw_id, sender), "from": chat.id, "fromMe": False}
    selected = None if v.failed else list(v.selected)
    cast |= {"to": sender, "participant": sender, "selectedOptions": selected, "timestamp": v.at_ms}
    return {"poll": poll, "vote": cast, "_data": {}}


def response(r: Response) -> Json:
    """Payload of event.response and event.response.failed. The key names the event as the answering side sees it: never
    its own, and in a direct chat in the chat with whoever made it."""
    chat, target = r.chat, r.target
    maker = chat.address(target.author) if target.author else target.account.me.id
    where = chat.id if chat.group else maker
    key: Json = {"id": serialized(False, where, target.raw_id, maker if chat.group else None)}
    key |= {"to": "me", "from": where, "fromMe": False} | ({"participant": maker} if chat.group else {})
    answer = {"response": r.answer, "timestampMs": r.at_ms, "extraGuestCount": r.guests}
    return _empty(r, None, {}) | {"eventCreationKey": key, "eventResponse": answer if r.answer else None}


def _base(act: Act) -> Json:
    source = act.source if isinstance(act, Message) else "app"
    return {
        "id": act.id,
        "timestamp": act.timestamp,
        "from": act.chat.id,
        "fromMe": act.from_me,
        "source": source,
    }


def _sender(act: Act) -> Json:
    return {"to": act.participant, "participant": act.participant}


def _empty(act: Act, text: str | None, content: Json) -> Json:
    """A message payload around an act that is no message: an edit or a revoke."""
    level = 1 if act.from_me else 2
    return _base(act) | {"body": text} | _sender(act) | {
        "hasMedia": False,
        "media": None,
        "ack": level,
        "location": None,
        "vCards": None,
        "ackName": ACK_NAMES[level],
        "replyTo": None,
        "_data": _data(act, content, level, "text", ""),
    }  # fmt: skip


def _data(act: Act, content: Json, level: int, type_: str, media_name: str) -> Json:
    chat, me = act.chat, act.account.me
    sender_alt = act.author.id if chat.lid and act.author else ""
    recipient = {"RecipientAlt": jid(chat.peer.id)} if chat.lid and act.from_me and chat.peer else {}
    source = {
        "Chat": jid(chat.id),
        "Sender": jid(chat.address(act.author) if act.author else me.id),
        "IsFromMe": act.from_me,
        "IsGroup": chat.group is not None,
        "AddressingMode": "lid" if chat.lid else "",
        "SenderAlt": jid(sender_alt),
    }
    return {
        "Info": source
        | recipient
        | {
            "ID": act.raw_id,
            "ServerID": 0,
            "Type": type_,
            "PushName": act.author.name if act.author else "",
            "Timestamp": _iso(act.at_ms),
            "Category": "",
            "Multicast": False,
            "MediaType": media_name,
        },
        "Message": content,
        "IsEphemeral": False,
        "IsViewOnce": False,
        "IsEdit": False,
        "Status": level + 1,
    }


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
