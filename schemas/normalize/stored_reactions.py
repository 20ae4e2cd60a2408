"""`_data.reactions` of a fetched message: who reacts to it at the moment, as NOWEB's store has it. No webhook carries it.

[{"key": of the reaction's own message, "text", "senderTimestampMs"}]. A webhook tells the same reaction with a time in whole
seconds and the envelope's id. So the time is cut to seconds and there is no id: of one second the webhook's stays. The sender's
clock may be ahead: nobody reacted after the message was fetched.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from schemas.facts import Fact, ReactionFact
from schemas.ids import MAX_JID_CHARS, is_group_like
from schemas.keys import ME
from schemas.normalize.engine import Key
from schemas.normalize.head import Head, Number, who
from schemas.normalize.references import Act
from schemas.normalize.values import time_ms
from schemas.reading import Reader


class _Stored(Struct, gc=False):
    key: Key | None = None
    text: str | None = None
    senderTimestampMs: Number | dict[str, Any] = None  # a dict: the Long of protobufjs


_read = Reader(_Stored)


def stored_reactions(found: list[Any], act: Act, head: Head, sent_ms: int, received_ms: int) -> list[Fact]:
    """A ReactionFact a person. `act` is the message, `sent_ms` its time. One of whom nobody says who he is, is left out: the
    message itself must not be lost for it."""
    facts: list[Fact] = []
    for item in found:
        stored = _read(msgspec.json.encode(item)) if type(item) is dict else _Stored()
        by = _person(stored.key, act.chat, head)
        if by is None:
            continue
        at_ms = min(_time(stored.senderTimestampMs) or sent_ms, received_ms) // 1000 * 1000
        facts.append(ReactionFact(head.session, act.chat, act.raw_id, act.author, by, stored.text or "", at_ms, ""))
    return facts


def _person(key: Key | None, chat: str, head: Head) -> str | None:
    if key is None:
        return None
    if key.fromMe is True:
        return ME
    if not is_group_like(chat):
        return chat
    named = key.participant
    return who(named, head.me) if named and "@" in named and len(named) <= MAX_JID_CHARS else None


def _time(value: Number | dict[str, Any]) -> int | None:
    if isinstance(value, dict):
        low, high = value.get("low"), value.get("high")
        return time_ms((high << 32) + (low & 0xFFFFFFFF)) if type(low) is int and type(high) is int else None
    return time_ms(value)
