"""What was answered 2xx against what is there, key by key: events with topics, messages with rows, bad ones with dead letters.

And all rows of all tables with those that a replay of the same topics makes without any fault.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition

from pipeline.broker import client_options, topic_states
from producers.simulator import Delivery
from schemas.topics import HEADER_EVENT, HEADER_EVENT_ID, LIVE_TOPICS, PARKED, Topic, dead_letter_topic
from tests.faults.outcome import Outcome
from tests.faults.rig import Site

_ENVELOPE_ID = re.compile(rb'{"id":"(evt_\w+)"')
_BAD_NUMBER = re.compile(rb'"bad": ?(\d+)')
_READERS = ("messages", "contacts")  # consumers that read the bad ones
_ROWS = "SELECT session, message_id FROM whatsapp_gateway.messages WHERE starts_with(session, $1)"
Pair = tuple[str, str]


@dataclass(slots=True)
class Memory:
    """What one driver sent, and what of it was answered 2xx. `prefix` begins the names of its sessions."""

    prefix: str
    sent: set[Pair] = field(default_factory=set)  # session and message id
    messages: set[Pair] = field(default_factory=set)  # received: session and message id
    events: set[Pair] = field(default_factory=set)  # received: event and envelope id
    bad: set[int] = field(default_factory=set)  # received: numbers

    def received(self, delivery: Delivery) -> None:
        """It was answered 2xx."""
        if delivery.session == "":
            found = _BAD_NUMBER.search(delivery.body)
            assert found
            self.bad.add(int(found[1]))
            return
        envelope = _ENVELOPE_ID.match(delivery.body)
        assert envelope
        self.events.add((delivery.event, envelope[1].decode()))
        message = _message_of(delivery)
        if message is not None:
            self.messages.add(message)

    def sending(self, delivery: Delivery) -> None:
        """It is about to be sent."""
        message = _message_of(delivery)
        if message is not None:
            self.sent.add(message)

    async def compare(self, site: Site, outcome: Outcome) -> None:
        """Fills in what is found. Everything must have been read by the consumers."""
        await self._compare_messages(site, outcome)
        await self._compare_events(site, outcome)
        await self._compare_bad(site, outcome)

    async def _compare_messages(self, site: Site, outcome: Outcome) -> None:
        async with connected(site) as connection:
            rows = await connection.fetch(_ROWS, self.prefix)
        stored = Counter((r["session"], r["message_id"]) for r in rows)
        outcome.messages, outcome.stored = len(self.messages), len(rows)
        outcome.doubled = len(rows) - len(stored)
        outcome.lost = len(self.messages - stored.keys())
        outcome.strange = len(stored.keys() - self.sent)

    async def _compare_events(self, site: Site, outcome: Outcome) -> None:
        records = [dict(r.headers) for topic in LIVE_TOPICS for r in await read_topic(site, topic)]
        there = {(h[HEADER_EVENT].decode(), h[HEADER_EVENT_ID].decode()) for h in records}
        outcome.events = len(self.events)
        outcome.lost += len(self.events - there)

    async def _compare_bad(self, site: Site, outcome: Outcome) -> None:
        parked = {n for n, _ in await _numbered(site, PARKED)}
        everywhere, letters = set(self.bad), 0
        for consumer in _READERS:
            found = await _numbered(site, dead_letter_topic(consumer))
            letters += len(found)
            outcome.dead_good += sum(n is None for n, _ in found)
            everywhere &= {n for n, _ in found} | parked
        outcome.bad, outcome.dead = len(self.bad), len(everywhere)
        outcome.notes["dead letters"] = str(letters)


def _message_of(delivery: Delivery) -> Pair | None:
    """Session and id of the message that it makes a row of; a message that waits for its key is one already."""
    if delivery.event == "message.waiting":
        return delivery.session, json.loads(delivery.body)["payload"]["id"]
    return None if delivery.message_id is None else (delivery.session, delivery.message_id)


async def compare_with_replay(site: Site, outcome: Outcome) -> None:
    """Rows of every table of the messages consumer, also of acks, edits and the rest: `wapipe replay --shadow` makes them
    once more from the same records, without any fault."""
    done = await site.command("replay", "messages", "--shadow", "--json")
    tables = json.loads(done)["tables"]
    assert sum(t["same"] for t in tables) >= outcome.stored, done
    differing = {t["table"]: t for t in tables if t["added"] or t["changed"] or t["missing"]}
    outcome.otherwise += sum(t["added"] + t["changed"] + (t["missing"] or 0) for t in differing.values())
    outcome.notes["rows that a replay makes alike"] = f"{sum(t['same'] for t in tables):,}"
    if differing:
        outcome.notes["otherwise"] = json.dumps(differing)


@contextlib.asynccontextmanager
async def connected(site: Site) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A connection to the site's database, not through the proxy."""
    connection = await asyncpg.connect(site.settings.database.dsn(), timeout=10)
    try:
        yield connection
    finally:
        connection.terminate()


async def read_topic(site: Site, topic: Topic) -> list[Any]:
    """Every record of a topic that is there now."""
    consumer = AIOKafkaConsumer(**client_options(site.settings.kafka), fetch_max_bytes=2**24)
    await consumer.start()
    try:
        (state,) = await topic_states(site.settings.kafka, [topic])
        partitions = [TopicPartition(state.name, p) for p in range(state.partitions)]
        consumer.assign(partitions)
        at = await consumer.beginning_offsets(partitions)
        ends = await consumer.end_offsets(partitions)
        for tp, offset in at.items():
            consumer.seek(tp, offset)
        found: list[Any] = []
        while any(at[tp] < ends[tp] for tp in partitions):
            for tp, records in (await consumer.getmany(timeout_ms=500)).items():
                found += records
                at[tp] = records[-1].offset + 1
        return found
    finally:
        await consumer.stop()


async def _numbered(site: Site, topic: Topic) -> list[tuple[int | None, dict[str, bytes]]]:
    """The bad ones in a topic: number (None: it is none of a driver's bad ones) and headers."""
    found = [(_BAD_NUMBER.search(r.value or b""), dict(r.headers)) for r in await read_topic(site, topic)]
    return [(int(match[1]) if match else None, headers) for match, headers in found]
