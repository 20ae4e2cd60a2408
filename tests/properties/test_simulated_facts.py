"""A simulated WhatsApp of each engine: every event states what is described, everything said finds its message, and the
state is the same in any order and doubled."""

from __future__ import annotations

import json
import random

import pytest

from producers.simulator import ENGINES, Engine, Profile, traffic
from schemas.facts import Fact
from schemas.law import merge, read
from schemas.normalize.catalogue import CATALOGUE
from schemas.normalize.events import to_facts
from schemas.normalize.head import Record

START_MS = 1_795_000_000_000


def played(engine: Engine, seed: int) -> list[Fact]:
    found: list[Fact] = []
    for n, delivery in enumerate(traffic(Profile(count=1500, seed=seed, engines=(engine,), duplicates=0.1))):
        event = json.loads(delivery.body)["event"]
        facts = to_facts(delivery.body, Record(event, "default", START_MS + n))
        assert {type(fact) for fact in facts} <= set(CATALOGUE[event].states)
        assert engine in CATALOGUE[event].engines
        found += facts
    return found


@pytest.mark.parametrize("engine", ENGINES)
def test_what_a_simulated_whatsapp_says_fits_together(engine: Engine) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    facts = played(engine, seed)
    state = read(merge(facts))
    assert len(state.messages) > 500
    assert state.flagged == []
    random.Random(seed).shuffle(facts)
    assert read(merge([*facts, *facts[:200]])) == state
