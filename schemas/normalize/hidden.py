"""Acts that come as a message: edits, revokes, reactions and votes inside `message` and `message.any`.

WAHA filters most of them out and sends events of their own, but not in every version, and history (REST) has them:
protocolMessage (type 0 takes back, 14 edits; also inside editedMessage), reactionMessage, pollUpdateMessage (NOWEB, GOWS),
and WEBJS' type `revoked`, which is the message itself after it was taken back.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from schemas.facts import EditFact, Fact, ReactionFact, RevokeFact, VoteFact
from schemas.ids import is_group_like
from schemas.keys import ME
from schemas.normalize.engine import EDIT, REVOKE, Key, Proto, Protocol
from schemas.normalize.head import Head, Number, jid_at, who
from schemas.normalize.references import Act, Target, author_of, checked_raw
from schemas.normalize.values import time_ms
from schemas.reading import Reader, UnreadableError

KEYS = frozenset({"protocolMessage", "editedMessage", "reactionMessage", "pollUpdateMessage"})


class _Reaction(Struct, gc=False):
    key: Key | None = None
    text: str | None = None
    senderTimestampMs: Number = None
    senderTimestampMS: Number = None


class _PollUpdate(Struct, gc=False):
    pollCreationMessageKey: Key | None = None
    senderTimestampMs: Number = None
    senderTimestampMS: Number = None


class _Acts(Proto):
    reactionMessage: _Reaction | None = None
    pollUpdateMessage: _PollUpdate | None = None


class _Texts(Struct, gc=False):
    """Any content object: its text."""

    text: str | None = None
    caption: str | None = None


_read = Reader(_Acts)
_read_texts = Reader(_Texts)


def hidden_acts(proto: dict[str, Raw], act: Act, head: Head, at_ms: int) -> list[Fact]:
    """The acts in a message object of NOWEB or GOWS; none when it is content."""
    parts = {key: proto[key] for key in KEYS if key in proto}
    found = _read(msgspec.json.encode(parts))
    if (protocol := found.protocol) is not None:
        return _protocol(protocol, act, head, at_ms)
    if (reaction := found.reactionMessage) is not None:
        target = _target(reaction.key, act, head)
        when = time_ms(reaction.senderTimestampMs or reaction.senderTimestampMS) or at_ms
        return (
            [
                ReactionFact(
                    head.session,
                    target.chat,
                    target.raw_id,
                    target.author,
                    act.by,
                    reaction.text or "",
                    when,
                    head.event_id,
                )
            ]
            if target
            else []
        )
    if (update := found.pollUpdateMessage) is not None:
        target = _target(update.pollCreationMessageKey, act, head)
        when = time_ms(update.senderTimestampMs or update.senderTimestampMS) or at_ms
        return (
            [VoteFact(head.session, target.chat, target.raw_id, target.author, act.by, (), True, when, head.event_id)]
            if target
            else []
        )
    return []


def _protocol(protocol: Protocol, act: Act, head: Head, at_ms: int) -> list[Fact]:
    key = protocol.key
    raw_id = key.raw_id if key is not None else None
    if not raw_id or key is None:
        return []
    raw_id = checked_raw(raw_id, "payload._data.message.protocolMessage.key.id")
    if protocol.kind == REVOKE:
        named = jid_at(key.participant, "payload._data.message.protocolMessage.key.participant")
        author = (who(named, head.me) if named else None) if act.chat.endswith("@g.us") else act.author
        return [RevokeFact(head.session, act.chat, raw_id, author, act.by, at_ms, head.event_id, act.raw_id, None)]
    if protocol.kind == EDIT:
        when = time_ms(protocol.edited_at) or at_ms
        text = _text_of(protocol.editedMessage or {})
        return [EditFact(head.session, act.chat, raw_id, act.author, act.raw_id, text, when, head.event_id, None)]
    return []


def _text_of(message: dict[str, Raw]) -> str | None:
    """The text or caption of an edited message object."""
    for key, raw in message.items():
        if key == "conversation":
            try:
                return msgspec.json.decode(raw, type=str) or None
            except ValueError:
                return None
        try:
            part = _read_texts(bytes(raw))
        except UnreadableError:
            continue
        if part.text or part.caption:
            return part.text or part.caption
    return None


def _target(key: Key | None, act: Act, head: Head) -> Target | None:
    """The message of a key inside the message object. Its sender wrote it: `fromMe` is his view, so ours in own acts only."""
    if key is None or not key.raw_id:
        return None
    raw_id = checked_raw(key.raw_id, "payload._data.message.key.id")
    named = jid_at(key.participant, "payload._data.message.key.participant")
    if act.author == ME:
        author = author_of(act.chat, key.fromMe is True, named, head.me)
    else:
        author = who(named, head.me) if named and is_group_like(act.chat) else None
    return Target(act.chat, raw_id, author)
