"""The recorded deliveries are played as they were recorded."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import orjson

from producers.simulator import RECORDED_KEY, recorded
from producers.simulator.envelopes import sign

FIXTURE = Path(__file__).parent.parent / "fixtures" / "waha_observed.jsonl"


def test_package_data_is_the_fixture() -> None:
    package = files("producers.simulator").joinpath("recorded/waha_2026_4_1_noweb.jsonl")
    assert package.read_bytes() == FIXTURE.read_bytes()


def test_exactly_as_recorded() -> None:
    lines = [orjson.loads(line) for line in FIXTURE.read_bytes().splitlines()]
    made = list(recorded())
    assert [d.body.decode() for d in made] == [line["body"] for line in lines]
    assert [d.headers for d in made] == [line["headers"] for line in lines]


def test_signatures_are_those_of_the_recorded_key() -> None:
    for delivery in recorded():
        assert delivery.headers["X-Webhook-Hmac"] == sign(delivery.body, RECORDED_KEY)


def test_another_key_changes_the_signature_only() -> None:
    for old, new in zip(recorded(), recorded("another"), strict=True):
        assert new.body == old.body
        assert new.headers == {**old.headers, "X-Webhook-Hmac": sign(old.body, "another")}


def test_names_and_times() -> None:
    made = list(recorded())
    assert len(made) == 35
    assert sum(d.message_id is not None for d in made) == 16
    assert made[0].at_s == 0
    assert {d.session for d in made} == {"default"}
