"""Bodies of messages, and the facts that they become."""

from __future__ import annotations

import json
from typing import Any

from schemas.normalize.message import to_content
from schemas.rows import ContentFact
from schemas.webhook import parse_body

ME = "4915112345678@c.us"
ANA = "5511988887777@c.us"
LID = "123456789012345@lid"
GROUP = "120363040000000001@g.us"
AT_S = 1_784_973_600
AT_MS = AT_S * 1000
RECEIVED_AT_MS = 1_800_000_000_000


def envelope(payload: Any, **over: Any) -> dict[str, Any]:
    """An envelope of NOWEB around `payload`."""
    base = {"id": "evt_1", "timestamp": AT_MS + 750, "event": "message", "session": "default",
            "me": {"id": ME, "pushName": "Acme"}, "payload": payload, "engine": "NOWEB"}  # fmt: skip
    return base | over


def content(payload: Any, source: str = "default", **over: Any) -> ContentFact:
    return to_content(parse_body(json.dumps(envelope(payload, **over)).encode()), source, RECEIVED_AT_MS)


def message(**fields: Any) -> dict[str, Any]:
    """A payload with an id and a time."""
    return {"id": f"false_{ANA}_A1", "timestamp": AT_S} | fields


def noweb(**proto: Any) -> dict[str, Any]:
    return {"message": proto}
