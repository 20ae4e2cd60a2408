"""What every event says about itself: session, envelope, time, and who "me" is. The normalisers read bodies through this."""

from __future__ import annotations

from functools import lru_cache

from msgspec import Struct

from schemas.errors import MalformedError
from schemas.ids import MAX_JID_CHARS, normalize_jid, qualify_session
from schemas.keys import ME
from schemas.normalize.values import time_ms
from schemas.rows import LANE_LIVE
from schemas.webhook import Me, Webhook

BROWSER_ENGINES = ("WEBJS", "WPP")
Number = int | float | str | None  # a time or an amount as it may arrive; see schemas.normalize.values


class Body(Struct, gc=False):
    """The envelope without its payload: each subject adds the payload it reads."""

    id: str | None = None
    timestamp: Number = None
    session: str | None = None
    me: Me | None = None
    engine: str | None = None


class Record(Struct, frozen=True, gc=False):
    """What a record says beside its body: its headers, and the lane that its topic stands for."""

    event: str
    source: str  # which WAHA
    received_at_ms: int
    lane: int = LANE_LIVE
    people: bool = True  # False: names and identities may be left out, because they are not kept


class Head(Struct, frozen=True, gc=False):
    """The envelope as facts use it."""

    session: str  # qualified by its source
    event_id: str  # "" before 2024-11
    engine: str | None
    at_ms: int  # when WAHA stamped the event; when we received it, before 2025-02
    me: tuple[str, ...]  # the account's ids, none before pairing


def head_of(body: Body | Webhook, record: Record) -> Head:
    """Raises MalformedError when there is no session."""
    if not body.session:
        raise MalformedError("session_missing", "session")
    if len(body.session) > MAX_JID_CHARS:
        raise MalformedError("session_too_long", "session")
    return Head(
        qualify_session(record.source, body.session),
        body.id[:MAX_JID_CHARS] if body.id else "",
        body.engine,
        time_ms(body.timestamp) or record.received_at_ms,
        _ids(body.me.id, body.me.lid) if body.me is not None else (),
    )


@lru_cache(maxsize=10_000)
def _ids(jid: str | None, lid: str | None) -> tuple[str, ...]:
    return tuple(normalize_jid(i) for i in (jid, lid) if i and "@" in i and len(i) <= MAX_JID_CHARS)


def who(jid: str, me: tuple[str, ...]) -> str:
    """A person as facts name him: ME for the account itself (WAHA also writes the word), else his normalised id."""
    jid = normalize_jid(jid)
    return ME if jid in me else jid


def jid_at(value: str | None, path: str) -> str | None:
    """A normalised id, None for a missing one or one that is no id. Raises MalformedError when it is too long to be one."""
    if not value or "@" not in value:
        return None
    if len(value) > MAX_JID_CHARS:
        raise MalformedError("jid_too_long", path)
    return normalize_jid(value)


def chat_at(value: str | None, path: str) -> str:
    """As jid_at, and it must be there."""
    jid = jid_at(value, path)
    if jid is None:
        raise MalformedError("chat_missing", path)
    return jid


def name_at(value: str | None, path: str, what: str) -> str:
    """A short text that must be there: part of a key. `what` makes the reasons: `{what}_missing`, `{what}_too_long`."""
    if not value:
        raise MalformedError(f"{what}_missing", path)
    if len(value) > MAX_JID_CHARS:
        raise MalformedError(f"{what}_too_long", path)
    return value
