"""Who is who: hidden ids beside phone numbers, and the names that people go by. Side facts of many events."""

from __future__ import annotations

from schemas.facts import Fact, IdentityFact, NameFact
from schemas.normalize.engine import EngineData, lid_and_phone
from schemas.normalize.head import Head

_HOUR_MS = 3_600_000
_MAX_NAME_CHARS = 256  # WhatsApp allows 25; a longer one goes into a key, and is not worth losing a message


def identity(head: Head, one: str | None, other: str | None, source: str, at_ms: int) -> list[Fact]:
    """One IdentityFact when the two ids are a hidden id and a phone number."""
    pair = lid_and_phone(one, other)
    return [IdentityFact(head.session, *pair, True, source, to_hour(at_ms))] if pair else []


def name(head: Head, person: str, source: str, text: str | None, at_ms: int) -> list[Fact]:
    """One NameFact when there is a name."""
    return [NameFact(head.session, person, source, text[:_MAX_NAME_CHARS], to_hour(at_ms))] if text else []


def people_of(data: EngineData, head: Head, sender: str | None, at_ms: int) -> list[Fact]:
    """What `_data` of a message says of its people. `sender` is None for own messages: their push name is not a peer's."""
    found: list[Fact] = []
    for one, other in data.pairs:
        if other:
            found += identity(head, one, other, "message", at_ms)
    if sender is not None:
        push = data.pushName or (data.info.PushName if data.info is not None else None) or data.notifyName
        found += name(head, sender, "push", push, at_ms)
        found += name(head, sender, "verified", data.verifiedBizName, at_ms)
    return found


def to_hour(at_ms: int) -> int:
    """The beginning of the hour: what every message says again is written once an hour."""
    return at_ms - at_ms % _HOUR_MS
