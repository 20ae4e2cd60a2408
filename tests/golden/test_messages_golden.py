"""What every recorded and every sample delivery must become: rows of messages and sessions, topics and keys.

The files beside this one (messages/*.json) were written from WAHA's own description, not from wapipe's output. A row
lists what a message has; a field that is not listed is empty (null, false, 0 or "").
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from msgspec import structs

from schemas.envelope import read_envelope
from schemas.normalize.message import EVENTS, to_content
from schemas.normalize.session import to_session
from schemas.rows import ContentFact, SessionFact
from schemas.topics import OTHER, ROUTES
from schemas.webhook import parse_body
from tests.golden.messages import Delivery, deliveries, golden

SUBJECTS = ("text", "own", "group", "media", "location_contact_poll", "reply", "odd")
RECEIVED_AT_MS = 1_800_000_000_000  # of no fixture: it must not show up in any row

DELIVERIES = {(d.name, d.event): d for d in deliveries()}
ROWS = [case for subject in SUBJECTS for case in golden(subject)]
ROUTING = golden("routing")
SESSIONS = golden("session_status")

EMPTY = ContentFact(
    session="", chat="", sender=None, participant=None, key_sender="", ts_ms=0, from_me=False, has_media=False,
    raw_id="", type="", body=None, reply_to=None, source=None, push_name=None, mimetype=None, filename=None,
    event_id=None, extra=None, poverty=0,
)  # fmt: skip


def case_id(case: dict[str, Any]) -> str:
    return f"{case['name']} {case.get('event', '')}"


def unix_ms(text: str) -> int:
    """RFC 3339 (UTC) -> Unix milliseconds."""
    return round(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1000)


def expected_row(row: dict[str, Any]) -> ContentFact:
    """The fact that a golden row stands for; `extra` is compared as JSON (see content_of)."""
    fields = dict(row)
    fields["ts_ms"] = unix_ms(fields.pop("time"))
    return structs.replace(EMPTY, **fields)


def content_of(delivery: Delivery) -> ContentFact:
    """The fact with `extra` parsed: the order of its keys is nobody's business."""
    fact = to_content(parse_body(delivery.body), "default", RECEIVED_AT_MS)
    return structs.replace(fact, extra=orjson.loads(fact.extra)) if fact.extra is not None else fact


@pytest.mark.parametrize("case", ROWS, ids=case_id)
def test_message_becomes_its_row(case: dict[str, Any]) -> None:
    delivery = DELIVERIES[case["name"], case["event"]]
    assert delivery.engine == case["engine"]
    assert structs.asdict(content_of(delivery)) == structs.asdict(expected_row(case["row"]))


def test_every_message_of_the_fixtures_has_a_golden_row() -> None:
    wanted = sorted(k for k, d in DELIVERIES.items() if d.event in EVENTS)
    assert sorted((c["name"], c["event"]) for c in ROWS) == wanted


@pytest.mark.parametrize("case", ROUTING, ids=case_id)
def test_event_goes_to_its_topic_under_its_key(case: dict[str, Any]) -> None:
    delivery = DELIVERIES[case["name"], case["event"]]
    envelope = read_envelope(delivery.body)
    assert (envelope.event, envelope.engine) == (case["event"], case["engine"])
    assert envelope.topic.name == case["topic"]
    assert f"{envelope.session}|{envelope.chat}" == case["key"]


def test_every_delivery_of_the_fixtures_has_a_golden_route() -> None:
    assert sorted((c["name"], c["event"]) for c in ROUTING) == sorted(DELIVERIES)


def test_every_route_is_met_by_a_fixture() -> None:
    """One event name is unknown on purpose: it stands for the names that WAHA adds once or twice a year."""
    met = {d.event for d in DELIVERIES.values()}
    assert met - ROUTES.keys() == {"message.pinned"}
    assert ROUTES.keys() - met == set()
    assert {c["event"] for c in ROUTING if c["topic"] == OTHER.name} == {"message.pinned"}


@pytest.mark.parametrize("case", SESSIONS, ids=case_id)
def test_session_status_becomes_its_row(case: dict[str, Any]) -> None:
    delivery = DELIVERIES[case["name"], "session.status"]
    expected = dict(case["row"])
    expected["at"] = datetime.fromtimestamp(unix_ms(expected["at"]) / 1000, UTC)
    fact = to_session(parse_body(delivery.body), "default", RECEIVED_AT_MS)
    assert fact._asdict() == SessionFact(**expected)._asdict()


def test_every_session_status_of_the_fixtures_has_a_golden_row() -> None:
    wanted = sorted(d.name for d in DELIVERIES.values() if d.event == "session.status")
    assert sorted(c["name"] for c in SESSIONS) == wanted


def test_twins_say_the_same() -> None:
    """`message` and `message.any` of one message share the envelope id and differ in nothing that is stored."""
    pairs: dict[str, list[ContentFact]] = {}
    for delivery in DELIVERIES.values():
        if delivery.event in EVENTS and delivery.name.startswith("observed"):
            pairs.setdefault(delivery.name, []).append(content_of(delivery))
    assert [len(p) for p in pairs.values()] == [2] * 8
    assert all(first == second for first, second in pairs.values())


def test_a_second_waha_keeps_its_sessions_apart() -> None:
    body = DELIVERIES["text DM NOWEB (message)", "message"].body
    assert to_content(parse_body(body), "berlin", RECEIVED_AT_MS).session == "berlin:acme-de"
