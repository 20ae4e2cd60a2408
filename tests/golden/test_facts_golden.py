"""What every recorded and every sample delivery states: facts, of all events and all engines.

The files beside this one (facts/*.json) are held against WAHA's own description by eye; what they show is what is stored.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from schemas.facts import OtherFact
from schemas.normalize.events import NORMALISERS, to_facts
from schemas.normalize.head import Record
from tests.golden.facts import RECEIVED_AT_MS, SUBJECTS, fact_as_json, golden, shown
from tests.golden.messages import Delivery, deliveries

DELIVERIES = {(d.name, d.event): d for d in deliveries()}
CASES = [case for subject in SUBJECTS for case in golden(subject)]


def name_of(case: dict[str, Any]) -> str:
    return f"{case['name']} {case['envelope']['event']}"


def case_of(delivery: Delivery) -> dict[str, Any]:
    """The case that a delivery makes."""
    envelope = json.loads(delivery.body)
    payload = envelope.pop("payload")
    kept = {k: v for k, v in envelope.items() if k not in ("metadata", "environment")}
    found = to_facts(delivery.body, Record(delivery.event, "default", RECEIVED_AT_MS))
    facts = [fact_as_json(fact, envelope["session"], envelope.get("id", "")) for fact in found]
    return {"name": delivery.name, "envelope": kept, "payload": shown(payload), "facts": facts}


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_delivery_states_its_facts(case: dict[str, Any]) -> None:
    assert case_of(DELIVERIES[case["name"], case["envelope"]["event"]]) == case


def test_every_delivery_of_the_fixtures_is_a_case() -> None:
    assert sorted((c["name"], c["envelope"]["event"]) for c in CASES) == sorted(DELIVERIES)


def test_every_event_has_a_case() -> None:
    assert NORMALISERS.keys() - {c["envelope"]["event"] for c in CASES} == set()


def test_what_is_kept_whole_is_the_body() -> None:
    delivery = DELIVERIES["unknown future event", "message.pinned"]
    (fact,) = to_facts(delivery.body, Record("message.pinned", "default", RECEIVED_AT_MS))
    assert isinstance(fact, OtherFact)
    assert fact.body.encode() == delivery.body
