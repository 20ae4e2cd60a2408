"""Who is who: hidden ids beside phone numbers, and the names that people go by. Side facts of many events."""

from __future__ import annotations

from schemas.facts import Fact, IdentityFact, NameFact
from schemas.keys import ME
from schemas.normalize.engine import EngineData, Info, Key, lid_and_phone
from schemas.normalize.head import Head

_HOUR_MS = 3_600_000
MAX_NAME_CHARS = 256  # WhatsApp allows 25; a longer one goes into a key, and is not worth losing a message


def identity(session: str, one: str | None, other: str | None, source: str, at_ms: int) -> list[Fact]:
    """One IdentityFact when the two ids are a hidden id and a phone number."""
    pair = lid_and_phone(one, other)
    return [IdentityFact(session, *pair, True, source, to_hour(at_ms))] if pair else []


def name(session: str, person: str, source: str, text: str | None, at_ms: int) -> list[Fact]:
    """One NameFact when there is a name."""
    return [NameFact(session, person, source, text[:MAX_NAME_CHARS], to_hour(at_ms))] if text else []


def people_of(data: EngineData, head: Head, by: str, at_ms: int) -> list[Fact]:
    """What `_data` of an act says of the people in it."""
    push = data.pushName or (data.info.PushName if data.info is not None else None) or data.notifyName
    found = identities(head.session, data.key, data.info, at_ms)
    if by != ME:  # the account's own name is no peer's
        found += name(head.session, by, "push", push, at_ms)
        found += name(head.session, by, "verified", data.verifiedBizName, at_ms)
    return found


def identities(session: str, key: Key | None, info: Info | None, at_ms: int) -> list[Fact]:
    """The ids that stand side by side: NOWEB's and GOWS' Alt fields."""
    found: list[Fact] = []
    if key is not None and (key.remoteJidAlt or key.participantAlt):
        found += identity(session, key.remoteJid, key.remoteJidAlt, "message", at_ms)
        found += identity(session, key.participant, key.participantAlt, "message", at_ms)
    if info is not None and (info.SenderAlt or info.RecipientAlt):
        found += identity(session, info.Sender, info.SenderAlt, "message", at_ms)
        found += identity(session, info.Chat, info.RecipientAlt, "message", at_ms)
    return found


def to_hour(at_ms: int) -> int:
    """The beginning of the hour: what every message says again is written once an hour."""
    return at_ms - at_ms % _HOUR_MS
