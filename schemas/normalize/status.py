"""`session.status`: the session's present (session.py), its history, its versions, and who its account is.

`statuses` holds the last three points with times in ms (since 2025.9.4). `data` is not kept: it can hold pairing codes.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from schemas.facts import Fact, StatusFact, VersionFact
from schemas.normalize.head import Body, Record, head_of
from schemas.normalize.people import identity, name
from schemas.normalize.session import to_session
from schemas.normalize.values import obj, text, time_ms
from schemas.reading import Reader
from schemas.webhook import parse_body

_MAX_STATUS_CHARS = 64
_MAX_POINTS = 50  # WAHA sends three


class _Payload(Struct):
    statuses: list[Any] | None = None


class _Body(Body):
    payload: _Payload | None = None


_read = Reader(_Body)


def to_statuses(body: bytes, record: Record) -> list[Fact]:
    """A SessionFact, and what follows from it. Raises MalformedError as to_session does."""
    session = to_session(parse_body(body), record.source, record.received_at_ms)
    event = _read(body)
    head, points = head_of(event, record), (event.payload or _Payload()).statuses or []
    told = [_point(head.session, obj(item)) for item in points[:_MAX_POINTS]]
    facts: list[Fact] = [session, *(f for f in told if f is not None)]
    if not any(f is not None and f.status == session.status for f in told):  # before 2025.9.4
        facts.append(StatusFact(head.session, session.status[:_MAX_STATUS_CHARS], head.at_ms))
    facts.append(VersionFact(head.session, session.engine, session.waha_version, head.at_ms))
    if head.me:
        facts += identity(head.session, session.me, session.me_lid, "account", head.at_ms)
        facts += name(head.session, head.me[0], "push", session.me_push_name, head.at_ms)
    return facts


def _point(session: str, item: dict[str, Any]) -> StatusFact | None:
    status, at_ms = text(item.get("status")), time_ms(item.get("timestamp"))
    if status is None or at_ms is None:
        return None
    return StatusFact(session, status[:_MAX_STATUS_CHARS], at_ms)
