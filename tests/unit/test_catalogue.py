"""The table of events (docs/events.md is made from it) says what the normalisers do."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from schemas.facts import Fact
from schemas.normalize.catalogue import ALL, CATALOGUE, ENGINES, TABLES
from schemas.normalize.events import NORMALISERS, to_facts
from schemas.normalize.head import Record
from schemas.normalize.other import to_others
from tests.events_page import columns_of_tables
from tests.golden.messages import Delivery, deliveries
from tests.unit.told import ANA, ANA_LID, GROUP, tell

DELIVERIES = deliveries()
ALT = {"key": {"remoteJid": ANA_LID, "remoteJidAlt": ANA}}
AFTER = {"id": f"false_{ANA_LID}_R1", "_data": ALT}


def hidden(**message: Any) -> dict[str, Any]:
    """A message that is an act."""
    return {"id": f"false_{ANA}_A1", "_data": {"message": message}}


# What the fixtures have no example of.
FURTHER: list[tuple[str, dict[str, Any]]] = [
    ("message", hidden(protocolMessage={"type": 14, "key": {"id": "T"}})),
    ("message", hidden(protocolMessage={"type": 0, "key": {"id": "T"}})),
    ("message", hidden(reactionMessage={"key": {"id": "T"}})),
    ("message", hidden(pollUpdateMessage={"pollCreationMessageKey": {"id": "T"}})),
    ("message.edited", {"id": f"false_{ANA_LID}_E1", "editedMessageId": "T", "_data": ALT}),
    ("message.revoked", {"after": AFTER, "revokedMessageId": "T"}),
    ("event.response", {"id": f"false_{ANA_LID}_R1", "eventCreationKey": {"id": "T"}, "_data": ALT}),
    ("call.received", {"id": "C1", "_data": {"CallCreator": ANA_LID, "CallCreatorAlt": ANA}}),
    ("group.v2.join", {"group": {"id": GROUP, "participants": [None]}}),
    ("group.v2.leave", {"group": {"id": GROUP}}),
    ("group.v2.participants", {"group": {"id": GROUP}, "type": "join", "participants": [{"id": ANA}, None]}),
    ("group.join", {"id": GROUP, "participants": [None]}),
    ("group.leave", {"chatId": GROUP, "recipientIds": [None]}),
    ("presence.update", {"id": ANA, "presences": [{"participant": ANA, "lastKnownPresence": "online"}, None]}),
]


def test_every_event_is_described() -> None:
    assert CATALOGUE.keys() == NORMALISERS.keys()
    assert all(d.engines <= ALL and d.tagged <= d.engines for d in CATALOGUE.values())
    assert set(ENGINES) == ALL


def test_every_fact_has_its_tables() -> None:
    assert TABLES.keys() == set(get_args(Fact))
    columns = columns_of_tables()
    assert all(columns[table] for tables, _ in TABLES.values() for table in tables)


@pytest.mark.parametrize("delivery", DELIVERIES, ids=str)
def test_a_delivery_states_what_is_described(delivery: Delivery) -> None:
    if (described := CATALOGUE.get(delivery.event)) is None:
        return
    found = {type(fact) for fact in to_facts(delivery.body, Record(delivery.event, "default", 1))}
    assert found <= set(described.states)
    assert delivery.engine in described.engines


def test_what_is_described_is_stated() -> None:
    """By some event of the normaliser: one normaliser treats its events alike."""
    told: dict[Any, set[type]] = {normaliser: set() for normaliser in (*NORMALISERS.values(), to_others)}
    for delivery in DELIVERIES:
        found = to_facts(delivery.body, Record(delivery.event, "default", 1))
        told[NORMALISERS.get(delivery.event, to_others)].update(type(fact) for fact in found)
    for event, payload in FURTHER:
        further = {type(fact) for fact in tell(event, payload, me=None)}
        assert further <= set(CATALOGUE[event].states)
        told[NORMALISERS[event]] |= further
    described: dict[Any, set[type]] = {}
    for event, entry in CATALOGUE.items():
        described.setdefault(NORMALISERS[event], set()).update(entry.states)
    assert described == told
