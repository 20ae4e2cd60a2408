"""Webhook to row to API: how long until an answered delivery can be read, at half of what the machine persists."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from typing import Any
from urllib.parse import quote

import httpx

from pipeline.broker import apply_topics
from pipeline.local.ports import free_port
from pipeline.registry import consumer_names
from pipeline.settings import load_settings
from producers.simulator import Delivery, Target, play
from schemas.topics import all_topics
from tests.bench.common import Site, Table, message_traffic, wapipe
from tests.bench.ingress import _up

SECONDS = 20.0
PROBES_PER_S = 5.0


async def run(site: Site) -> Table:
    """First the rate at which this machine takes deliveries through everything, then half of it with probes."""
    table = Table("Webhook to API, everything on one machine", "deliveries/s", "full load")
    environment = await site.environment("latency.")
    port, consumer_port = free_port(), free_port()
    environment |= {"WHATSAPP_GATEWAY_API_PORT": str(port), "WAPIPE_METRICS_PORT": str(consumer_port)}
    settings = load_settings(environment)
    await apply_topics(settings.kafka, all_topics(consumer_names()))
    target = Target(f"{settings.origin}/webhook", environment["WHATSAPP_HOOK_HMAC_KEY"])
    async with wapipe(environment, "run", "gateway"), wapipe(environment, "run", "messages"):
        await asyncio.gather(_up(port, "/ready"), _up(consumer_port, "/ready"))
        count = 10_000
        report = await play(message_traffic(count, seed=1), target, concurrency=64)
        full = report.rate_per_s
        table.add("full load", full)
        await _caught_up(consumer_port)
        latencies: list[float] = []
        probing = asyncio.create_task(_probe(settings.origin, environment, latencies))
        half = await play(
            message_traffic(int(full / 2 * SECONDS), seed=2), target, rate_per_s=full / 2, concurrency=64
        )  # fmt: skip
        probing.cancel()
        await asyncio.gather(probing, return_exceptions=True)
        table.add("half load", half.rate_per_s)
    cuts = statistics.quantiles(latencies, n=100)
    table.notes.append(
        f"From sending a delivery to reading it through the API, {len(latencies)} probes at half load: "
        f"p50 {cuts[49] * 1000:.0f} ms, p95 {cuts[94] * 1000:.0f} ms, p99 {cuts[98] * 1000:.0f} ms. "
        "Load generator, broker and database share the cores."
    )
    return table


async def _caught_up(port: int) -> None:
    async with httpx.AsyncClient() as client:
        for _ in range(600):
            text = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
            lags = [float(x.rsplit(" ", 1)[1]) for x in text.splitlines() if x.startswith("wapipe_lag_records{")]
            if lags and sum(lags) == 0:
                return
            await asyncio.sleep(0.2)
    raise RuntimeError("the consumer does not catch up")


async def _probe(origin: str, environment: dict[str, str], latencies: list[float], seed: int = 3) -> None:
    """Posts a message of its own now and then, and reads its chat until it stands there. Messages of a seed that was used in the
    same database stand there already."""
    target = Target(f"{origin}/webhook", environment["WHATSAPP_HOOK_HMAC_KEY"])
    headers = {"X-Api-Token": environment["WHATSAPP_GATEWAY_API_TOKEN"]}
    async with httpx.AsyncClient(base_url=origin, headers=headers) as client:
        for delivery in message_traffic(100_000, sessions=2, chats=5, seed=seed):
            started = time.perf_counter()
            await play([delivery], target)
            await _visible(client, delivery)
            latencies.append(time.perf_counter() - started)
            await asyncio.sleep(max(0.0, 1 / PROBES_PER_S - (time.perf_counter() - started)))


async def _visible(client: httpx.AsyncClient, delivery: Delivery) -> None:
    assert delivery.message_id is not None
    chat = quote(delivery.message_id.split("_")[1], safe="")
    while True:
        answer: Any = await client.get(f"/api/messages/{delivery.session}/{chat}?limit=200")
        with contextlib.suppress(KeyError):
            if any(m["id"] == delivery.message_id for m in answer.json()["items"]):
                return
        await asyncio.sleep(0.01)
