"""`wapipe.people`: what contacts and hidden ids of WAHA's REST state."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from schemas.errors import MalformedError
from schemas.facts import Fact, IdentityFact, NameFact
from schemas.normalize.events import to_facts
from schemas.normalize.head import Record
from schemas.rows import LANE_BACKFILL

AT_MS = 1_784_973_600_000  # a full hour


def told(payload: Any) -> list[Fact]:
    body = {"id": "sync_1", "timestamp": AT_MS + 5, "event": "wapipe.people", "session": "acme", "payload": payload}
    return to_facts(orjson.dumps(body), Record("wapipe.people", "berlin", AT_MS, LANE_BACKFILL))


def test_names_and_identities() -> None:
    found = told({
        "contacts": [
            {"id": "49151@c.us", "name": "Ana", "push_name": "ana!", "lid": "77@lid"},
            {"id": "49152@s.whatsapp.net", "name": None, "push_name": "Bob", "lid": None},
            {"id": "nobody"}, {"name": "No id"},
        ],
        "lids": [{"lid": "78@lid", "phone": "49153@c.us"}, {"lid": "79@lid", "phone": None}],
    })  # fmt: skip
    session = "berlin:acme"
    assert found == [
        NameFact(session, "49151@c.us", "saved", "Ana", AT_MS),
        NameFact(session, "49151@c.us", "push", "ana!", AT_MS),
        IdentityFact(session, "77@lid", "49151@c.us", True, "contacts", AT_MS),
        NameFact(session, "49152@c.us", "push", "Bob", AT_MS),
        IdentityFact(session, "78@lid", "49153@c.us", True, "lids", AT_MS),
    ]


def test_without_a_payload() -> None:
    with pytest.raises(MalformedError, match="payload_missing"):
        told(None)
    assert told({}) == []
