"""Payloads of the engine WPP: messages and acts on them, key by key.

`from` and `to` are really sender and receiver; `participant`, `replyTo` and `mediaUrl` are null when there is
none; `location` and `vCards` are always null.
"""

from __future__ import annotations

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
)

_TYPES = {
    "text": "chat", "voice": "ptt", "live_location": "location", "poll": "poll_creation",
}  # fmt: skip


def message(m: Message) -> Json:
    """Payload of message and message.any."""
    vcards = m.content.vcards
    return _message(m, m.id, vcards[0] if len(vcards) == 1 else m.content.body)


def reaction(r: Reaction) -> Json:
    """Payload of message.reaction: `source` is null, `_data` comes before the reaction."""
    sender = r.participant or (r.account.me.id if r.from_me else r.chat.id)
    return {
        "id": r.id,
        "timestamp": r.timestamp,
        "from": r.chat.id,
        "fromMe": r.from_me,
        "source": None,
        "participant": sender,
        "to": sender,
        "_data": {"reactionText": r.text},
        "reaction": {"text": r.text, "messageId": r.target.id},
    }


def edited(e: Edit) -> Json:
    """Payload of message.edited: `id` is the key of the edit."""
    return _message(e.target, e.id, e.text) | {"editedMessageId": e.target.raw_id}


def revoked(r: Revoke) -> Json:
    """Payload of message.revoked: before and after are message keys, not messages."""
    sender, receiver = _ends(r)
    data = {"id": r.id, "refId": r.target.id, "from": sender, "to": receiver}
    return {
        "revokedMessageId": r.target.raw_id,
        "before": _key(r.target),
        "after": _key(r),
        "_data": data,
    }


def ack(a: Ack) -> Json:
    """Payload of message.ack and message.ack.group: `_data` is the engine's [model, ack, options]."""
    return {
        "id": a.target.id,
        "from": a.target.chat.id,
        "to": a.target.chat.id,
        "participant": a.target.participant,
        "fromMe": True,
        "ack": a.level,
        "ackName": ACK_NAMES[a.level],
        "_data": [{"id": {"_serialized": a.target.id}}, a.level, {}],
    }


def vote(v: Vote) -> Json:
    """Payload of poll.vote: vote and poll have the same id."""
    chat, voter = v.target.chat, v.target.chat.address(v.voter)
    participant = voter if chat.group else None
    poll: Json = {
        "id": v.target.id,
        "from": chat.id,
        "fromMe": False,
        "to": voter,
        "participant": participant,
    }
    cast: Json = {
        "id": v.target.id,
        "from": voter,
        "fromMe": False,
        "to": chat.id,
        "participant": participant,
    }
    return {
        "poll": poll,
        "vote": cast | {"selectedOptions": list(v.selected), "timestamp": v.at_ms},
        "_data": {},
    }


def _ends(act: Act) -> tuple[str, str]:
    me = act.account.me.id
    return (me, act.chat.id) if act.from_me else (act.chat.id, me)


def _message(m: Message, id_: str, text: str | None) -> Json:
    sender, receiver = _ends(m)
    content = m.content
    return {
        "id": id_,
        "timestamp": m.timestamp,
        "from": sender,
        "fromMe": m.from_me,
        "source": m.source,
        "to": receiver,
        "participant": m.participant,
        "body": text,
        "hasMedia": content.has_media,
        "media": media(m, content, id_),
        "mediaUrl": None,
        "ack": m.ack,
        "ackName": ACK_NAMES[m.ack],
        "location": None,
        "vCards": None,
        "replyTo": _reply_to(m.reply_to) if m.reply_to else None,
        "_data": _data(m, id_, text),
    }


def _reply_to(quoted: Message) -> Json:
    """`replyTo.id` is the serialized id here."""
    sender = quoted.participant or (quoted.account.me.id if quoted.from_me else quoted.chat.id)
    text = quoted.content.text
    return {
        "id": quoted.id,
        "participant": sender,
        "body": text,
        "hasMedia": False,
        "media": None,
        "_data": {},
    }


def _key(act: Act) -> Json:
    key: Json = {"fromMe": act.from_me, "id": act.raw_id, "remoteJid": jid(act.chat.id)}
    if act.participant:
        key["participant"] = jid(act.participant)
    return key


def _data(m: Message, id_: str, body: str | None) -> Json:
    sender, receiver = _ends(m)
    out: Json = {
        "id": id_,
        "type": "multi_vcard" if len(m.content.vcards) > 1 else _TYPES.get(m.content.kind, m.content.kind),
        "body": body or "",
        "t": m.timestamp,
        "timestamp": m.timestamp,
        "from": sender,
        "to": receiver,
        "chatId": m.chat.id,
        "ack": m.ack,
    }
    if m.participant:
        out["author"] = m.participant
    return out
