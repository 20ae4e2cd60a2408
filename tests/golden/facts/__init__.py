"""Every recorded and every sample delivery beside the facts it states: one file a subject, to be read as documentation.

A case is an envelope without its payload, the payload, and the facts. Times are RFC 3339; a field of a fact that is not listed
is None (of content: empty); session and event_id are listed where they are not the envelope's. Long texts are cut with "…".
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from msgspec import structs

from schemas.facts import Fact, RankedContent
from schemas.rows import SessionFact

FOLDER = Path(__file__).parent
SUBJECTS = (
    "messages_text", "messages_own", "messages_group", "messages_media", "messages_other", "acks", "edits", "revokes",
    "reactions", "votes", "responses", "calls", "groups", "members", "labels", "chats", "presence", "sessions", "others",
)  # fmt: skip
RECEIVED_AT_MS = 1_800_000_000_000  # of no fixture: it shows only where an envelope has no time
_MAX_TEXT = 400


def golden(subject: str) -> list[dict[str, Any]]:
    """The cases of a subject."""
    found: list[dict[str, Any]] = json.loads((FOLDER / f"{subject}.json").read_text())
    return found


def shown(value: Any) -> Any:
    """A JSON value with long texts cut."""
    if isinstance(value, str):
        return value if len(value) <= _MAX_TEXT else value[:40] + "…"
    if isinstance(value, dict):
        return {key: shown(inner) for key, inner in value.items()}
    return [shown(inner) for inner in value] if isinstance(value, list) else value


def fact_as_json(fact: Fact, session: str, event_id: str) -> dict[str, Any]:
    """A fact as a golden file has it."""
    kind = type(fact).__name__.removesuffix("Fact")
    if isinstance(fact, RankedContent):
        kind, fields = (
            "Content",
            {k: v for k, v in structs.asdict(fact.content).items() if v not in (None, "", False, 0)},
        )
        if "extra" in fields:
            fields["extra"] = json.loads(fields["extra"])
    else:
        found = fact._asdict() if isinstance(fact, SessionFact) else structs.asdict(fact)
        fields = {k: list(v) if isinstance(v, tuple) else v for k, v in found.items() if v is not None}
    if kind == "Other":
        fields["body"] = "the whole body"
    for name, ours in (("session", session), ("event_id", event_id)):
        if fields.get(name) == ours:
            del fields[name]
    return {"fact": kind} | {name: shown(_time(name, value)) for name, value in fields.items()}


def _time(name: str, value: Any) -> Any:
    if name == "at":
        value = value.timestamp() * 1000
    elif not name.endswith("_ms"):
        return value
    at = datetime.fromtimestamp(round(value) / 1000, UTC)
    return at.isoformat(timespec="milliseconds" if round(value) % 1000 else "seconds").replace("+00:00", "Z")
