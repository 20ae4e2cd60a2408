"""The people and groups that a message shows: its sender, and the group it stands in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from schemas.rows import ContactFact, ContentFact


def to_contacts(content: ContentFact) -> list[ContactFact]:
    """One or two facts. A name's time is kept to the hour and last_seen to the day: a busy chat does not rewrite
    its contact for each message."""
    at = datetime.fromtimestamp(content.ts_ms / 1000, UTC)
    found: list[ContactFact] = []
    if content.sender is not None:
        name = None if content.from_me else content.push_name
        found.append(_fact(content, content.sender, name, at, is_me=content.from_me))
    if content.chat != content.sender:
        found.append(_fact(content, content.chat, None, at, is_me=False))
    return found


def _fact(content: ContentFact, jid: str, push_name: str | None, at: datetime, *, is_me: bool) -> ContactFact:
    hour = at.replace(minute=0, second=0, microsecond=0)
    named_at = hour if push_name is not None else None
    day = hour.replace(hour=0)
    return ContactFact(content.session, jid, push_name, named_at, jid.endswith("@g.us"), is_me, at, day)


def merge_contacts(a: ContactFact, b: ContactFact) -> ContactFact:
    """What both say together; commutative, associative, idempotent. The newest name wins (ties: the greater one)."""
    early = datetime.min.replace(tzinfo=UTC) + timedelta(days=1)
    newest = max(a, b, key=lambda f: (f.push_name_at or early, f.push_name or ""))
    return ContactFact(
        a.session, a.jid, newest.push_name, newest.push_name_at, a.is_group, a.is_me or b.is_me,
        min(a.first_seen_at, b.first_seen_at), max(a.last_seen_at, b.last_seen_at),
    )  # fmt: skip
