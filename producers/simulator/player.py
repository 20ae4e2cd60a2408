"""Plays deliveries against a webhook as WAHA does: signed, concurrent, unordered, retried, forgotten.

The client is aiohttp: with 64 connections against one uvicorn worker on two cores it did 5,000 deliveries/s
at 0.2 ms of CPU each, httpx 190/s at 5 ms. Pacing is open loop: a slow answer does not slow the next delivery
down until `max_pending` of them are under way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from urllib.parse import urlsplit

import aiohttp

from producers.simulator.delivery import Delivery
from producers.simulator.envelopes import sign
from producers.simulator.report import Report
from producers.simulator.retry import WAHA_RETRY, Retry, parse_retry_after

OnAnswer = Callable[[Delivery, int | None, float, int], None]
"""Called after every attempt: delivery, HTTP status or None, latency in seconds, attempt from 1."""

Sleep = Callable[[float], Awaitable[None]]

# The client makes these itself, also for recorded deliveries that carry them.
_TRANSPORT_HEADERS = frozenset({"host", "content-length", "connection"})
_MAX_REDIRECTS = 21  # axios follows as many
_STOP_GRACE_S = 2.0  # for requests under way when the play is stopped


@dataclass(frozen=True, slots=True)
class Target:
    """Where deliveries go. `hmac_key` signs those not signed yet; `token` goes into X-Webhook-Token."""

    url: str
    hmac_key: str | None
    token: str | None = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{self.url!r} is not an http(s) URL")

    def headers(self, delivery: Delivery) -> dict[str, str]:
        """All headers of one delivery; made once, since retries repeat them."""
        out = {k: v for k, v in delivery.headers.items() if k.lower() not in _TRANSPORT_HEADERS}
        if self.hmac_key is not None and "X-Webhook-Hmac" not in out:
            out["X-Webhook-Hmac"] = sign(delivery.body, self.hmac_key)
            out["X-Webhook-Hmac-Algorithm"] = "sha512"
        if self.token is not None:
            out["X-Webhook-Token"] = self.token
        return out


async def play(
    deliveries: Iterable[Delivery],
    target: Target,
    *,
    rate_per_s: float | None = None,
    concurrency: int = 64,
    on_answer: OnAnswer | None = None,
    retry: Retry = WAHA_RETRY,
    timeout_s: float | None = None,
    max_pending: int = 10_000,
    stop: asyncio.Event | None = None,
    report: Report | None = None,
    sleep: Sleep = asyncio.sleep,
    rng: Random | None = None,
) -> Report:
    """Sends every delivery until it is answered 2xx or its retries are used up, and says what came of it.

    `rate_per_s` None means as fast as `concurrency` requests at a time allow. `timeout_s` bounds one request
    (WAHA has no limit). Setting `stop` ends the play: nothing new is sent, waiting retries are dropped,
    requests under way get a moment. `report` is filled while it plays. Latencies count from when an attempt
    is due, so that a wait for a free connection shows.
    `sleep` waits between retries and `rng` jitters them: for tests.
    """
    connector = aiohttp.TCPConnector(limit=concurrency)
    async with aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=timeout_s),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
    ) as session:
        player = _Player(
            session=session,
            target=target,
            retry=retry,
            on_answer=on_answer,
            sleep=sleep,
            rng=rng or Random(),  # noqa: S311 - jitter
            slots=asyncio.Semaphore(concurrency),
            room=asyncio.Semaphore(max_pending),
            report=report or Report(),
        )
        await player.run(deliveries, rate_per_s, stop or asyncio.Event())
        return player.report


@dataclass(slots=True, kw_only=True)
class _Player:
    """One play: the feeder, a task for each delivery under way, and the counts."""

    session: aiohttp.ClientSession
    target: Target
    retry: Retry
    on_answer: OnAnswer | None
    sleep: Sleep
    rng: Random
    slots: asyncio.Semaphore  # requests at a time
    room: asyncio.Semaphore  # deliveries under way, those that wait for a retry included
    report: Report
    stoppable: set[asyncio.Task[None]] = field(default_factory=set)  # the feeder, and deliveries that wait
    stopping: bool = False

    async def run(self, deliveries: Iterable[Delivery], rate_per_s: float | None, stop: asyncio.Event) -> None:
        clock = asyncio.get_running_loop().time
        started_s = clock()
        work = asyncio.create_task(self._work(deliveries, rate_per_s))
        watch = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
            else:
                await self._stop(work)
        finally:
            self.report.elapsed_s += clock() - started_s
            for task in (work, watch):
                task.cancel()
            await asyncio.gather(work, watch, return_exceptions=True)

    async def _stop(self, work: asyncio.Task[None]) -> None:
        self.stopping = True
        for task in list(self.stoppable):
            task.cancel()
        with suppress(TimeoutError):
            await asyncio.wait_for(work, _STOP_GRACE_S)

    async def _work(self, deliveries: Iterable[Delivery], rate_per_s: float | None) -> None:
        async with asyncio.TaskGroup() as group:
            self.stoppable.add(group.create_task(self._feed(group, deliveries, rate_per_s)))

    async def _feed(self, group: asyncio.TaskGroup, deliveries: Iterable[Delivery], rate_per_s: float | None) -> None:
        clock = asyncio.get_running_loop().time
        started_s = clock()
        for n, delivery in enumerate(deliveries):
            if self.stopping:
                return
            if rate_per_s is not None:
                await asyncio.sleep(max(0.0, started_s + n / rate_per_s - clock()))
            else:
                await self.slots.acquire()
            await self.room.acquire()
            group.create_task(self._deliver(delivery, has_slot=rate_per_s is None))

    async def _deliver(self, delivery: Delivery, *, has_slot: bool) -> None:
        """One delivery to its end."""
        report, clock = self.report, asyncio.get_running_loop().time
        report.sent += 1
        report.unfinished += 1
        report.events[delivery.event] += 1
        headers = self.target.headers(delivery)
        for attempt in range(1, self.retry.attempts + 2):
            due_s = clock()
            if not has_slot or attempt > 1:
                await self._stoppably(self.slots.acquire())
            ok, retry_after_s = await self._attempt(delivery, headers, attempt, due_s)
            if ok or attempt > self.retry.attempts:
                break
            if self.stopping:
                return
            await self._stoppably(self.sleep(self.retry.wait_s(attempt, retry_after_s, self.rng)))
        report.unfinished -= 1
        report.delivered += ok
        report.lost += not ok
        self.room.release()

    async def _stoppably(self, wait: Awaitable[object]) -> None:
        """Waits for something that need not be waited for any more once the play is stopped."""
        task = asyncio.current_task()
        assert task
        self.stoppable.add(task)
        try:
            await wait
        finally:
            self.stoppable.discard(task)

    async def _attempt(
        self, delivery: Delivery, headers: dict[str, str], attempt: int, due_s: float
    ) -> tuple[bool, float]:
        """One request in a slot: whether it was answered 2xx, and the seconds that Retry-After asks for."""
        self.report.attempts += 1
        self.report.retried += attempt > 1
        try:
            status, retry_after = await self._post(delivery, headers)
        finally:
            self.slots.release()
        latency_s = asyncio.get_running_loop().time() - due_s
        if status is not None:
            self.report.answers[status] += 1
            self.report.latencies.add(latency_s)
        if self.on_answer:
            self.on_answer(delivery, status, latency_s, attempt)
        return status is not None and 200 <= status < 300, parse_retry_after(retry_after)

    async def _post(self, delivery: Delivery, headers: dict[str, str]) -> tuple[int | None, str | None]:
        try:
            async with self.session.post(
                self.target.url, data=delivery.body, headers=headers, max_redirects=_MAX_REDIRECTS
            ) as answer:
                await answer.read()
                return answer.status, answer.headers.get("Retry-After")
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            self.report.errors[type(exc).__name__] += 1
            return None, None
