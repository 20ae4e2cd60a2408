"""What live messages feel of a history that is being fetched: webhook to API with and without, at half load.

The history is the initial backfill that the scheduler asks for by itself; it must not end before the measurement does.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import sys
import time
from collections.abc import AsyncIterator

from pipeline.broker import apply_topics
from pipeline.local.ports import free_port
from pipeline.postgres import open_pool
from pipeline.registry import consumer_names
from pipeline.settings import Settings, load_settings
from producers.simulator import Target, play
from schemas.topics import all_topics
from sql import queries
from tests.bench.common import Site, Table, message_traffic, wapipe
from tests.bench.ingress import _up
from tests.bench.latency import _caught_up, _probe
from tests.bench.sync import serving_history

SECONDS, _WARM_S = 20.0, 15.0
_SESSIONS, _MESSAGES = 4, 75_000
_NONE = "no backfill"
_WAYS: dict[str, float | None] = {_NONE: None, "backfill of 500/s": 500, "backfill at full speed": 0}


async def run(site: Site, *, rounds: int) -> Table:
    """p99 of each way by the p99 without. Every second round goes the other way round."""
    table = Table("Webhook to API at half load, beside a backfill", "ms, p99", _NONE)
    table.rates = {name: [] for name in _WAYS}
    for number in range(rounds):
        port, ways = free_port(), list(_WAYS)
        async with serving_history(port, _SESSIONS, _MESSAGES):
            await _round(
                table, await site.environment(f"backfill{port}.") | {"WAPIPE_WAHA_URL": f"http://127.0.0.1:{port}"},
                ways[::-1] if number % 2 else ways,
            )  # fmt: skip
    return table


async def _round(table: Table, environment: dict[str, str], ways: list[str]) -> None:
    port, consumer_port = free_port(), free_port()
    environment |= {
        "WHATSAPP_GATEWAY_API_PORT": str(port), "WHATSAPP_API_KEY": "benchmark-key-0123456789", "WAPIPE_WAHA_RATE_PER_S": "10000",
        "WHATSAPP_SYNC_LOOKBACK_DAYS": "3650", "WHATSAPP_SYNC_INTERVAL_MS": "2000",
    }  # fmt: skip
    settings = load_settings(environment)
    await apply_topics(settings.kafka, all_topics(consumer_names()))
    target = Target(f"{settings.origin}/webhook", environment["WHATSAPP_HOOK_HMAC_KEY"])
    messages = environment | {"WAPIPE_METRICS_PORT": str(consumer_port)}
    async with wapipe(environment, "run", "gateway"), wapipe(messages, "run", "messages"):
        await asyncio.gather(_up(port, "/ready"), _up(consumer_port, "/ready"))
        full = (await play(message_traffic(10_000, seed=1), target, concurrency=64)).rate_per_s
        await _caught_up(consumer_port)
        # Nobody is cold any more, and every partition has had its first batch.
        async with _fetching(environment, settings, 0):
            await _measured(settings, environment, target, full / 2, seed=2, seconds=_WARM_S)
        await _caught_up(consumer_port)
        async with await open_pool(settings.database, name="bench", max_size=1) as pool:
            await pool.execute(
                "ANALYZE"
            )  # as the server does by itself within a minute: the first way would be without
        for number, name in enumerate(ways):
            rate = _WAYS[name]
            async with _fetching(environment, settings, rate):
                before, started = await _fetched(settings), time.monotonic()
                latencies, live = await _measured(
                    settings, environment, target, full / 2, seed=10 + number, seconds=SECONDS
                )
                fetched = await _fetched(settings) - before
                if rate is not None and (fetched == 0 or before + fetched >= _SESSIONS * _MESSAGES):
                    raise RuntimeError(f"{name}: {fetched:,} messages were fetched meanwhile, {before:,} before")
                per_s = fetched / (time.monotonic() - started)
            cuts = statistics.quantiles(latencies, n=100)
            print(
                f"  {name}: p50 {cuts[49] * 1000:.0f} ms, {live:,.0f} live/s, {per_s:,.0f} fetched/s, {len(latencies)} probes",
                file=sys.stderr, flush=True,
            )  # fmt: skip
            table.add(name, cuts[98] * 1000)
            await _caught_up(consumer_port)


async def _measured(
    settings: Settings, environment: dict[str, str], target: Target, rate_per_s: float, seed: int, seconds: float
) -> tuple[list[float], float]:
    """Latencies of probes while live messages come at this rate; and the rate that it was."""
    latencies = list[float]()
    probing = asyncio.create_task(_probe(settings.origin, environment, latencies, 1000 + seed))
    deliveries = message_traffic(int(rate_per_s * seconds), seed=seed)
    live = await play(deliveries, target, rate_per_s=rate_per_s, concurrency=64)
    probing.cancel()
    await asyncio.gather(probing, return_exceptions=True)
    return latencies, live.rate_per_s


@contextlib.asynccontextmanager
async def _fetching(environment: dict[str, str], settings: Settings, rate: float | None) -> AsyncIterator[None]:
    """A sync process at work until the end of the block; none without a rate, 0 is no limit."""
    if rate is None:
        yield
        return
    async with await open_pool(settings.database, name="bench", max_size=1) as pool:
        await pool.execute(queries("sync")["set_control"], None, True, rate or None)
    begun = await _fetched(settings)
    async with wapipe(environment | {"WAPIPE_METRICS_PORT": str(free_port())}, "run", "sync"):
        while await _fetched(settings) == begun:  # noqa: ASYNC110 - another's rows
            await asyncio.sleep(0.1)
        yield


async def _fetched(settings: Settings) -> int:
    async with await open_pool(settings.database, name="bench", max_size=1) as pool:
        return int(
            await pool.fetchval("SELECT coalesce(sum(seen), 0)::int FROM whatsapp_gateway.sync_state WHERE NOT spread")
        )
