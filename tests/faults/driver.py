"""Numbered signed webhooks as WAHA sends and repeats them; afterwards what was answered 2xx against what is there.

A delivery is known by what makes it unique: event and envelope id, the id of its message, the number of a bad one. WAHA
tries 16 times, 2 s apart, and forgets; what it gave up was never promised, and is counted apart.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import AsyncIterator, Iterator
from itertools import count
from typing import Any

import asyncpg

from producers.simulator import Delivery, Profile, Report, Retry, Target, play, traffic
from tests.faults.compare import Memory, compare_with_replay, connected
from tests.faults.outcome import Outcome
from tests.faults.rig import PATIENCE_S, Site
from tests.site import until

_SAMPLE_S = 0.1


class Driver:
    """Traffic against one site, at a bounded rate, in the background. Start it with `driving`."""

    def __init__(self, site: Site, *, rate_per_s: float, seed: int, bad: float, shift_ms: int) -> None:
        self.site, self.report, self.seed = site, Report(), seed
        self._rate_per_s, self._bad, self._shift_ms = rate_per_s, bad, shift_ms
        self._memory = Memory(f"s{seed}x")
        self._stop = asyncio.Event()
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

    async def quiet(self) -> None:
        """No new deliveries; waits for WAHA's retries."""
        assert self._playing is not None
        self._stop.set()
        await self._playing

    async def finish(self, scenario: str) -> Outcome:
        """`quiet`, then waits for the consumers and compares key by key. Several drivers on one site: all quiet first."""
        await self.quiet()
        await self._end_watch()
        books = await self.site.settled(self.delivered)
        outcome = self._outcome
        outcome.scenario = scenario
        outcome.received, outcome.given_up = self.delivered, self.report.lost
        outcome.difference = books.difference
        await self._memory.compare(self.site, outcome)
        await compare_with_replay(self.site, outcome)
        outcome.notes["retries"] = str(self.report.retried)
        outcome.notes["seed"] = str(self.seed)
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
            session_prefix=self._memory.prefix,
        )  # fmt: skip
        rng, numbers = random.Random(self.seed), count(self.seed * 10**6)
        for delivery in traffic(profile, start_ms=time.time_ns() // 1_000_000 + self._shift_ms):
            if self._stop.is_set():
                return
            if rng.random() < self._bad:
                yield _bad_delivery(next(numbers))
            self._memory.sending(delivery)
            yield delivery

    def _on_answer(self, delivery: Delivery, status: int | None, _latency_s: float, _attempt: int) -> None:
        if status is None or not 200 <= status < 300:
            return
        now = time.monotonic()
        self._outcome.longest_refusal_s = max(self._outcome.longest_refusal_s, now - self._answered_at)
        self._answered_at = now
        self._memory.received(delivery)

    # ------------------------------------------------------------ watching
    async def _watch(self) -> None:
        """Looks at the books all the time: when did they last move?"""
        self._answered_at = self._stored_at = time.monotonic()
        while True:
            with contextlib.suppress(
                OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError
            ):
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
