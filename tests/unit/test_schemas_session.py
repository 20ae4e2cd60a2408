"""One session.status into one fact."""

from __future__ import annotations

import json
from typing import Any

import pytest

from schemas.errors import MalformedError
from schemas.normalize.session import to_session
from schemas.rows import SessionFact
from schemas.webhook import parse_body

ME = "4915112345678@c.us"
AT_MS = 1_784_973_604_750
RECEIVED_AT_MS = 1_800_000_000_000


def session(payload: Any, source: str = "default", **over: Any) -> SessionFact:
    """The fact of an envelope of NOWEB around `payload`."""
    made = {"id": "evt_1", "timestamp": AT_MS, "event": "session.status", "session": "default",
            "me": {"id": ME, "pushName": "Acme"}, "payload": payload, "engine": "NOWEB"} | over  # fmt: skip
    return to_session(parse_body(json.dumps(made).encode()), source, RECEIVED_AT_MS)


def test_status_of_a_second_server() -> None:
    fact = session({"status": "WORKING"}, "berlin")
    assert (fact.name, fact.status, fact.me) == ("berlin:default", "WORKING", ME)
    assert fact.at.timestamp() * 1000 == AT_MS


def test_statuses_of_next_years_waha_are_kept() -> None:
    assert session({"status": "SOMETHING_NEW"}).status == "SOMETHING_NEW"


@pytest.mark.parametrize("me", [None, [], "x", {}, {"id": 5, "lid": [], "pushName": {}}], ids=repr)
def test_before_pairing_nobody_is_me(me: Any) -> None:
    fact = session({"status": "SCAN_QR_CODE"}, me=me, environment=me)
    assert (fact.me, fact.me_lid, fact.me_push_name, fact.waha_version) == (None, None, None, None)


def test_an_envelope_without_time_counts_from_its_receipt() -> None:
    assert session({"status": "WORKING"}, timestamp=None).at.timestamp() * 1000 == RECEIVED_AT_MS


@pytest.mark.parametrize(
    ("payload", "over", "reason"),
    [
        pytest.param({}, {}, "status_missing", id="no status"),
        pytest.param({"status": 5}, {}, "status_missing", id="status of a wrong type"),
        pytest.param(None, {}, "status_missing", id="no payload"),
        pytest.param({"status": "WORKING"}, {"session": 5}, "session_missing", id="session of a wrong type"),
        pytest.param({"status": "WORKING"}, {"session": "s" * 257}, "session_too_long", id="session beyond an index"),
    ],
)
def test_statuses_that_cannot_be_stored(payload: Any, over: dict[str, Any], reason: str) -> None:
    with pytest.raises(MalformedError) as caught:
        session(payload, **over)
    assert caught.value.reason == reason
