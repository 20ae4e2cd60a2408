"""Ingress: verified and acknowledged deliveries a second, one worker, against a bare Starlette 200 of the same run.

With several numbers of connections, each against the bare one with as many: an answer waits for the broker, and what a group
of records costs there is shared by all that come meanwhile.
"""

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

CONNECTIONS = (16, 64, 256)
_TYPICAL = 64
SECONDS = 4.0
# A fresh Java machine compiles: the broker's first seconds cost three times as much, its first half minute twice.
BROKER_WARM_S = 45.0


async def run(site: Site, *, rounds: int) -> Table:
    """The table: both servers are up all the time, loaded one after the other."""
    table = Table("Ingress, one worker", "requests/s", "bare Starlette 200")
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
            await load(warm, requests, connections=_TYPICAL, seconds=seconds)
        for _ in range(rounds):
            for connections in CONNECTIONS:
                bare = f"bare Starlette 200, {connections} connections"
                rate, _outcome = await load(bare_port, requests, connections=connections, seconds=SECONDS)
                table.add(bare, rate, limit=bare)
                rate, outcome = await load(port, requests, connections=connections, seconds=SECONDS)
                table.add(f"wapipe, HMAC and broker's acknowledgement, {connections} connections", rate, limit=bare)
                if outcome.other:
                    raise RuntimeError(f"{outcome.other} answers were not 200")
                if connections == _TYPICAL:
                    worst.append(statistics.quantiles(outcome.latencies_s, n=100)[98])
    p99_ms = statistics.median(worst) * 1000
    table.notes.append(f"Latency p99 at full load, {_TYPICAL} connections: {p99_ms:.0f} ms.")
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
