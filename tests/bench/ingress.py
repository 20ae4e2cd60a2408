"""Ingress: verified and acknowledged deliveries a second, one worker, against a bare Starlette 200 of the same run."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import sys
from collections.abc import AsyncIterator

import httpx

from pipeline.broker import apply_topics
from pipeline.local.ports import free_port
from pipeline.registry import consumer_names
from pipeline.settings import load_settings
from schemas.topics import all_topics
from tests.bench.common import Site, Table, message_traffic, wapipe
from tests.bench.load import load, prepared

CONNECTIONS = 64
SECONDS = 6.0
BROKER_WARM_S = 12.0  # its first seconds cost three times as much: a fresh Java machine compiles


async def run(site: Site, *, rounds: int) -> Table:
    """The table: both servers are up all the time, loaded one after the other."""
    table = Table("Ingress, one worker, 64 connections", "requests/s", "bare Starlette 200")
    environment = await site.environment("ingress.")
    settings = load_settings(environment)
    await apply_topics(settings.kafka, all_topics(consumer_names()))
    key = environment["WHATSAPP_HOOK_HMAC_KEY"].encode()
    requests = prepared([d.body for d in message_traffic(5000)], key)
    port, bare_port = free_port(), free_port()
    worst: list[float] = []
    async with wapipe(environment | {"WAPIPE_INGRESS_PORT": str(port)}, "run", "ingress"), _bare(bare_port):
        await _up(port, "/ready")
        await _up(bare_port, "/webhook")
        for warm, seconds in ((port, BROKER_WARM_S), (bare_port, 1.0)):
            await load(warm, requests, connections=CONNECTIONS, seconds=seconds)
        for _ in range(rounds):
            rate, _outcome = await load(bare_port, requests, connections=CONNECTIONS, seconds=SECONDS)
            table.add("bare Starlette 200", rate)
            rate, outcome = await load(port, requests, connections=CONNECTIONS, seconds=SECONDS)
            table.add("wapipe ingress, HMAC and broker's acknowledgement", rate)
            if outcome.other:
                raise RuntimeError(f"{outcome.other} answers were not 200")
            worst.append(statistics.quantiles(outcome.latencies_s, n=100)[98])
    table.notes.append(f"Latency p99 at full load: {statistics.median(worst) * 1000:.0f} ms.")
    return table


@contextlib.asynccontextmanager
async def _bare(port: int) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.bench.bare", str(port))
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


async def _up(port: int, path: str) -> None:
    async with httpx.AsyncClient() as client:
        for _ in range(300):
            with contextlib.suppress(httpx.TransportError):
                if (await client.get(f"http://127.0.0.1:{port}{path}")).status_code < 500:
                    return
            await asyncio.sleep(0.1)
    raise RuntimeError(f"nothing answers on port {port}")
