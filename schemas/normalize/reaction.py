"""`message.reaction`: one person's reaction to a message, "" when it is taken away. All engines say it alike.

`timestamp` is seconds, on WEBJS also with a fraction. In groups `messageId` may lack the participant: then the author of the
message is unknown.
"""

from __future__ import annotations

from msgspec import Struct

from schemas.errors import MalformedError
from schemas.facts import Fact, ReactionFact
from schemas.normalize.head import Body, Number, Record, head_of
from schemas.normalize.references import ActPayload, Target, act_of, meant, raw_at, target_of
from schemas.normalize.values import time_ms
from schemas.reading import Reader


class _Reaction(Struct, gc=False):
    text: str | int | float | bool | list[object] | dict[str, object] | None = None
    messageId: str | None = None


class _Payload(ActPayload):
    timestamp: Number = None
    reaction: _Reaction | None = None


class _Body(Body):
    payload: _Payload | None = None


_read = Reader(_Body)


def to_reactions(body: bytes, record: Record) -> list[Fact]:
    """One ReactionFact. Raises MalformedError without payload, reaction, ids or chat."""
    event = _read(body)
    head, payload = head_of(event, record), event.payload
    if payload is None:
        raise MalformedError("payload_missing", "payload")
    reaction = payload.reaction
    if reaction is None:
        raise MalformedError("reaction_missing", "payload.reaction")
    emoji = reaction.text if reaction.text is not None else ""  # an empty text is a default, and may be left out
    if type(emoji) is not str:
        raise MalformedError("reaction_text_wrong", "payload.reaction.text")
    act = act_of(payload, head, "payload")
    path = "payload.reaction.messageId"
    # A raw id alone says nothing of its author.
    target = meant(target_of(reaction.messageId, path, head.me), act.chat, head.me) or Target(
        act.chat, raw_at(reaction.messageId, path), None
    )
    at_ms = time_ms(payload.timestamp) or head.at_ms
    return [ReactionFact(head.session, target.chat, target.raw_id, target.author, act.by, emoji, at_ms, head.event_id)]
