"""`session.status` of all engines into one SessionFact."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from schemas.errors import MalformedError
from schemas.ids import MAX_JID_CHARS, qualify_session
from schemas.normalize.values import obj, text, time
from schemas.rows import SessionFact

EVENTS = frozenset({"session.status"})


def to_session(data: dict[str, Any], source: str, received_at: datetime) -> SessionFact:
    """What the event says of its session. `received_at` stands in for an envelope without time (before 2025-02).

    Raises MalformedError when session or status are missing.
    """
    payload = obj(data.get("payload"))
    name, status = text(data.get("session")), text(payload.get("status"))
    if name is None or len(name) > MAX_JID_CHARS:
        raise MalformedError("session_missing", "session")
    if status is None:
        raise MalformedError("status_missing", "payload.status")
    me, environment = obj(data.get("me")), obj(data.get("environment"))
    return SessionFact(
        name=qualify_session(source, name),
        status=status,
        at=time(data.get("timestamp")) or received_at,
        me=text(me.get("id")),
        me_lid=text(me.get("lid")),
        me_push_name=text(me.get("pushName")),
        engine=text(data.get("engine")),
        waha_version=text(environment.get("version")),
    )
