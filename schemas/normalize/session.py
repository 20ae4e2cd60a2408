"""`session.status` of all engines into one SessionFact."""

from __future__ import annotations

from datetime import UTC, datetime

from schemas.errors import MalformedError
from schemas.ids import MAX_JID_CHARS, qualify_session
from schemas.normalize.values import time_ms
from schemas.rows import SessionFact
from schemas.webhook import Environment, Me, Webhook


def to_session(webhook: Webhook, source: str, received_at_ms: int) -> SessionFact:
    """What the event says of its session. `received_at_ms` stands in for an envelope without time (before 2025-02).

    Raises MalformedError when session or status are missing.
    """
    name = webhook.session
    if not name:
        raise MalformedError("session_missing", "session")
    if len(name) > MAX_JID_CHARS:
        raise MalformedError("session_too_long", "session")
    status = webhook.payload.status if webhook.payload is not None else None
    if not status:
        raise MalformedError("status_missing", "payload.status")
    me, environment = webhook.me or Me(), webhook.environment or Environment()
    return SessionFact(
        name=qualify_session(source, name),
        status=status,
        at=datetime.fromtimestamp((time_ms(webhook.timestamp) or received_at_ms) / 1000, UTC),
        me=me.id or None,
        me_lid=me.lid or None,
        me_push_name=me.pushName or None,
        engine=webhook.engine or None,
        waha_version=environment.version or None,
    )


def state_order(fact: SessionFact) -> tuple[datetime, str, str, str]:
    """The fact with the greatest says the session's state, engine and version."""
    return fact.at, fact.status, fact.engine or "", fact.waha_version or ""


def account_order(fact: SessionFact) -> tuple[datetime, str, str, str]:
    """Of the facts that name the account, the one with the greatest is believed."""
    return fact.at, fact.me or "", fact.me_lid or "", fact.me_push_name or ""
