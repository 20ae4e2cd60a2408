"""Numbered signed webhooks as WAHA sends and repeats them; afterwards what was answered 2xx against what is stored.

A delivery is known by what makes it unique: the id of its message, or the number of a bad one. WAHA tries 16 times,
2 s apart, and forgets; what it gave up is counted apart, because it was never promised.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition

from pipeline.broker import client_options, topic_states
from producers.simulator import Delivery, Profile, Report, Retry, Target, play, traffic
from schemas.topics import PARKED, Topic, dead_letter_topic
from tests.faults.rig import PATIENCE_S, Site
from tests.site import until

_BAD_NUMBER = re.compile(rb'"bad": ?(\d+)')
_READERS = ("messages", "contacts")  # consumers that read the bad ones
_SAMPLE_S = 0.1
Key = tuple[str, str]  # session and message id


@dataclass(slots=True)
class Outcome:
    """What came of one scenario. `check` says whether the promise was kept."""

    scenario: str
    received: int = 0  # deliveries answered 2xx
    given_up: int = 0  # by WAHA, after all its tries
    messages: int = 0  # different messages among those received
    stored: int = 0  # rows
    doubled: int = 0  # rows beyond one a message
    lost: int = 0  # messages answered 2xx without a row
    strange: int = 0  # rows of messages that were never sent
    bad: int = 0  # different bad deliveries among those received
    dead: int = 0  # of these, dead-lettered (by every consumer) or parked
    dead_good: int = 0  # dead letters that are none of the bad ones
    difference: int = 0  # of the books
    uncounted: int = 0  # events that are not stored and that the books do not name
    longest_stall_s: float = 0.0  # without anything newly stored, under traffic
    longest_refusal_s: float = 0.0  # without a 2xx, under traffic
    notes: dict[str, str] = field(default_factory=dict)

    def check(self) -> None:
        """Lost 0, doubled 0, dead-lettered = the bad ones, and the books say the same."""
        zero = ("doubled", "lost", "strange", "dead_good", "difference", "uncounted")
        assert {name: getattr(self, name) for name in zero} == dict.fromkeys(zero, 0), self.line()
        assert self.dead == self.bad, self.line()
        assert self.received > 0, self.line()

    def line(self) -> str:
        """For people."""
        notes = "".join(f", {k} {v}" for k, v in self.notes.items())
        return (
            f"{self.scenario}: received {self.received}, given up by WAHA {self.given_up}, stored {self.stored} of "
            f"{self.messages}, doubled {self.doubled}, lost {self.lost}, dead-lettered {self.dead} of {self.bad} bad "
            f"(and {self.dead_good} good), books differ by {self.difference}, longest stall {self.longest_stall_s:.1f} s, "
            f"without a 2xx {self.longest_refusal_s:.1f} s{notes}"
        )


class Driver:
    """Traffic against one site, at a bounded rate, in the background. Start it with `driving`."""

    def __init__(self, site: Site, *, rate_per_s: float, seed: int, bad: float, shift_ms: int) -> None:
        self.site, self.report, self.seed = site, Report(), seed
        self._rate_per_s, self._bad, self._shift_ms = rate_per_s, bad, shift_ms
        self._stop = asyncio.Event()
        self._sent: set[Key] = set()
        self._received: set[Key] = set()
        self._bad_received: set[int] = set()
        self._answered_at = self._stored_at = time.monotonic()
        self._stored, self._stalled_s = 0, 0.0
        self._outcome = Outcome("")
        self._playing: asyncio.Task[Report] | None = None
        self._watching: asyncio.Task[None] | None = None

    @property
    def delivered(self) -> int:
        """Deliveries answered 2xx so far."""
        return self.report.delivered

    @property
    def stored(self) -> int:
        """Records that the messages consumer has accounted for, as last seen."""
        return self._stored

    def longest_stall(self) -> float:
        """Seconds without anything newly stored, the most since this was asked last."""
        longest, self._stalled_s = max(self._stalled_s, time.monotonic() - self._stored_at), 0.0
        return longest

    def start(self) -> None:
        """Begins to send."""
        self._playing = asyncio.create_task(
            play(
                self._deliveries(),
                Target(self.site.webhook, self.site.hmac_key),
                rate_per_s=self._rate_per_s,
                on_answer=self._on_answer,
                retry=Retry(),
                timeout_s=60,
                report=self.report,
            ),
            name="play",
        )
        self._watching = asyncio.create_task(self._watch(), name="watch")

    async def progress(self, deliveries: int = 0, stored: int = 0) -> None:
        """Waits until so many more deliveries are answered 2xx, and so many more records accounted for."""
        delivered, accounted = self.delivered + deliveries, self.stored + stored

        async def probe() -> bool | None:
            for task in (self._playing, self._watching):
                assert task is not None
                if task.done():
                    task.result()  # they end by an error only
            return True if self.delivered >= delivered and self.stored >= accounted else None

        try:
            await until(probe, "", PATIENCE_S)
        except AssertionError:
            had = f"{self.delivered} deliveries and {self.stored} records"
            raise AssertionError(
                f"waited {PATIENCE_S:.0f} s for {delivered} and {accounted}; there are {had}"
            ) from None

    async def finish(self, scenario: str) -> Outcome:
        """No new deliveries; waits for WAHA's retries and for the consumers, then compares key by key."""
        assert self._playing is not None
        self._stop.set()
        await self._playing
        await self._end_watch()
        books = await self.site.settled(self.delivered)
        outcome = self._outcome
        outcome.scenario = scenario
        outcome.received, outcome.given_up = self.delivered, self.report.lost
        outcome.difference = books.difference
        await self._compare_messages(outcome)
        await self._compare_bad(outcome)
        outcome.notes["retries"] = str(self.report.retried)
        print(f"seed {self.seed}; {outcome.line()}")
        return outcome

    async def close(self) -> None:
        """Ends the traffic, also after a failure."""
        await self._end_watch()
        if self._playing is not None:
            self._playing.cancel()
            await asyncio.gather(self._playing, return_exceptions=True)

    # ------------------------------------------------------------ sending
    def _deliveries(self) -> Iterator[Delivery]:
        profile = Profile(
            rate_per_s=self._rate_per_s, sessions=4, chats=12, duplicates=0.03, seed=self.seed,
            session_prefix=f"s{self.seed}",
        )  # fmt: skip
        rng, numbers = random.Random(self.seed), count()
        for delivery in traffic(profile, start_ms=time.time_ns() // 1_000_000 + self._shift_ms):
            if self._stop.is_set():
                return
            if rng.random() < self._bad:
                yield _bad_delivery(next(numbers))
            if delivery.message_id is not None:
                self._sent.add((delivery.session, delivery.message_id))
            yield delivery

    def _on_answer(self, delivery: Delivery, status: int | None, _latency_s: float, _attempt: int) -> None:
        if status is None or not 200 <= status < 300:
            return
        now = time.monotonic()
        self._outcome.longest_refusal_s = max(self._outcome.longest_refusal_s, now - self._answered_at)
        self._answered_at = now
        if delivery.session == "":
            found = _BAD_NUMBER.search(delivery.body)
            assert found
            self._bad_received.add(int(found[1]))
        elif delivery.message_id is not None:
            self._received.add((delivery.session, delivery.message_id))

    # ------------------------------------------------------------ watching
    async def _watch(self) -> None:
        """Looks at the books all the time: when did they last move?"""
        self._answered_at = self._stored_at = time.monotonic()
        while True:
            with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                async with connected(self.site) as connection:
                    while True:
                        self._saw(await connection.fetchval(_ACCOUNTED, timeout=5) or 0)
                        await asyncio.sleep(_SAMPLE_S)
            await asyncio.sleep(_SAMPLE_S)

    def _saw(self, stored: int) -> None:
        if stored == self._stored:
            return
        now = time.monotonic()
        self._stalled_s = max(self._stalled_s, now - self._stored_at)
        self._outcome.longest_stall_s = max(self._outcome.longest_stall_s, now - self._stored_at)
        self._stored, self._stored_at = stored, now

    async def _end_watch(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)

    # ------------------------------------------------------------ comparing
    async def _compare_messages(self, outcome: Outcome) -> None:
        async with connected(self.site) as connection:
            rows = await connection.fetch("SELECT session, message_id FROM whatsapp_gateway.messages")
        stored = Counter((r["session"], r["message_id"]) for r in rows)
        outcome.messages, outcome.stored = len(self._received), len(rows)
        outcome.doubled = len(rows) - len(stored)
        outcome.lost = len(self._received - stored.keys())
        outcome.strange = len(stored.keys() - self._sent)

    async def _compare_bad(self, outcome: Outcome) -> None:
        parked = {n for n, _ in await numbered(self.site, PARKED)}
        outcome.bad = len(self._bad_received)
        everywhere, letters = set(self._bad_received), 0
        for consumer in _READERS:
            found = await numbered(self.site, dead_letter_topic(consumer))
            letters += len(found)
            outcome.dead_good += sum(n is None for n, _ in found)
            everywhere &= {n for n, _ in found} | parked
        outcome.dead = len(everywhere)
        outcome.notes["dead letters"] = str(letters)


_ACCOUNTED = "SELECT sum(records)::bigint FROM whatsapp_gateway.progress WHERE consumer = 'messages'"


@contextlib.asynccontextmanager
async def driving(
    site: Site, *, rate_per_s: float = 100.0, seed: int | None = None, bad: float = 0.01, shift_ms: int = 0
) -> AsyncIterator[Driver]:
    """Traffic for as long as the block lasts. `shift_ms`: how far WAHA's clock is off."""
    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    print("seed", seed)
    driver = Driver(site, rate_per_s=rate_per_s, seed=seed, bad=bad, shift_ms=shift_ms)
    driver.start()
    try:
        yield driver
    finally:
        await driver.close()


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


async def numbered(site: Site, topic: Topic) -> list[tuple[int | None, dict[str, bytes]]]:
    """The bad ones in a topic: number (None: it is none of the driver's bad ones) and headers."""
    found = [(_BAD_NUMBER.search(r.value or b""), dict(r.headers)) for r in await read_topic(site, topic)]
    return [(int(match[1]) if match else None, headers) for match, headers in found]


def _bad_delivery(number: int) -> Delivery:
    """A signed body that can never become a row; which kind, by its number."""
    event: dict[str, Any] = {"id": f"evt_bad{number}", "session": "bad", "engine": "NOWEB"}
    bodies = (
        json.dumps({**event, "event": "message", "payload": {"bad": number}}),
        json.dumps({**event, "event": "message.any", "payload": {"bad": number, "id": "A1"}}),
        f'{{"bad": {number}',
    )
    body = bodies[number % len(bodies)].encode()
    return Delivery(body, {"Content-Type": "application/json"}, "", "bad", None, 0.0)
