"""Replay: how fast against the live consumer, and what live consumption feels of it.

The rate is measured as the live one's: a process that starts, on a full topic and an empty database, from its first stored
batch to its last. Then the time from webhook to API with and without a replay at work, in turns.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections.abc import AsyncIterator

import asyncpg
import psutil

from pipeline.broker import apply_topics
from pipeline.local.ports import free_port
from pipeline.registry import consumer_names
from pipeline.settings import load_settings
from producers.simulator import Target, play
from schemas.topics import all_topics
from tests.bench.common import Site, Table, connect, fill_topic, message_traffic, wapipe
from tests.bench.ingress import _up
from tests.bench.latency import _caught_up, _probe

SECONDS = 20.0
SLOW_PER_S = 500


async def run(site: Site, *, records: int, rounds: int) -> Table:
    table = Table("Replay, one process, fetch to commit", "records/s", "live consumer")
    prefix = f"replay{records}."
    await fill_topic(load_settings(await site.environment(prefix)), message_traffic(records))
    environment = await site.environment(prefix)
    costs: dict[str, list[float]] = {}
    for _ in range(rounds):
        environment, empty = await site.environment(prefix), await site.environment(prefix)
        for name, where, arguments in (
            ("live consumer", environment, ("run", "messages")),
            ("replay into empty tables", empty, ("replay", "messages", "--nice", "0")),
            ("replay over what is there", environment, ("replay", "messages", "--nice", "0")),
        ):
            rate, cost = await _measure(where, records, *arguments)
            table.add(name, rate)
            costs.setdefault(name, []).append(cost)
    words = ", ".join(f"{name} {statistics.median(found):.0f}" for name, found in costs.items())
    table.notes.append(f"CPU of the process, µs a record: {words}.")
    table.notes.append(await _disturbance(environment, rounds))
    return table


async def _measure(environment: dict[str, str], records: int, *arguments: str) -> tuple[float, float]:
    """Records a second of a process that stores `records` of them, from its first batch to its last, and its CPU for
    each of them in µs."""
    own = {"WAPIPE_METRICS_PORT": str(free_port())}
    connection = await connect(load_settings(environment))
    try:
        before = await _stored(connection)
        async with wapipe(environment | own, *arguments, quiet=arguments[0] == "replay") as process:
            end = time.monotonic() + 300
            first = await _reached(connection, before + 1, process, end)
            started, cpu = time.perf_counter(), process.cpu_times()
            last = await _reached(connection, before + records, process, end)
            seconds, used = time.perf_counter() - started, process.cpu_times()
            spent = used.user + used.system - cpu.user - cpu.system
            return (last - first) / seconds, spent / (last - first) * 1e6
    finally:
        await connection.close()


async def _reached(
    connection: asyncpg.Connection[asyncpg.Record], count: int, process: psutil.Process, end: float
) -> int:
    """Waits until so many records stand in the books; answers how many do."""
    while time.monotonic() < end:
        stored = await _stored(connection)
        if stored >= count:
            return stored
        await asyncio.sleep(0.02)
    raise RuntimeError(f"{count} records were not stored by {process}")


async def _stored(connection: asyncpg.Connection[asyncpg.Record]) -> int:
    found = await connection.fetchval("SELECT coalesce(sum(records), 0)::int FROM whatsapp_gateway.progress")
    return int(found)


async def _disturbance(environment: dict[str, str], rounds: int) -> str:
    """Webhook to API at half load while a replay goes through the full topic again and again, beside the same without."""
    port, consumer_port = free_port(), free_port()
    environment |= {"WHATSAPP_GATEWAY_API_PORT": str(port), "WAPIPE_METRICS_PORT": str(consumer_port)}
    settings = load_settings(environment)
    await apply_topics(settings.kafka, all_topics(consumer_names()))
    target = Target(f"{settings.origin}/webhook", environment["WHATSAPP_HOOK_HMAC_KEY"])
    found: dict[str, list[float]] = {}
    async with wapipe(environment, "run", "gateway"), wapipe(environment, "run", "messages"):
        await asyncio.gather(_up(port, "/ready"), _up(consumer_port, "/ready"))
        full = (await play(message_traffic(5_000, seed=1), target, concurrency=64)).rate_per_s
        await _caught_up(consumer_port)
        for number in range(rounds):
            for name, replay in _WAYS.items():
                async with _replaying(environment, replay):
                    latencies: list[float] = []
                    probing = asyncio.create_task(_probe(settings.origin, environment, latencies))
                    traffic = message_traffic(int(full / 2 * SECONDS), seed=10 + number)
                    await play(traffic, target, rate_per_s=full / 2, concurrency=64)
                    probing.cancel()
                    await asyncio.gather(probing, return_exceptions=True)
                await _caught_up(consumer_port)
                found.setdefault(name, []).extend(latencies)
    words = "; ".join(f"{name} {_quantiles(latencies)}" for name, latencies in found.items())
    return f"From sending a delivery to reading it through the API, at half load, everything on one machine: {words}."


_WAYS: dict[str, list[str] | None] = {
    "no replay": None, "a replay at full speed": [], f"a replay of {SLOW_PER_S}/s": ["--rate", str(SLOW_PER_S)],
}  # fmt: skip


@contextlib.asynccontextmanager
async def _replaying(environment: dict[str, str], options: list[str] | None) -> AsyncIterator[None]:
    """One replay after the other until the end of the block."""
    if options is None:
        yield
        return

    async def again() -> None:
        while True:
            async with wapipe(environment, "replay", "messages", *options, quiet=True) as process:
                while process.is_running() and process.status() != "zombie":  # noqa: ASYNC110
                    await asyncio.sleep(0.2)

    task = asyncio.create_task(again())
    await _begun(environment)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _begun(environment: dict[str, str]) -> None:
    """Returns when a replay has stored something."""
    connection = await connect(load_settings(environment))
    try:
        before = await _stored_by_replays(connection)
        while await _stored_by_replays(connection) == before:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    finally:
        await connection.close()


async def _stored_by_replays(connection: asyncpg.Connection[asyncpg.Record]) -> int:
    sql = "SELECT coalesce(sum(records), 0)::int FROM whatsapp_gateway.progress WHERE consumer LIKE '%@replay-%'"
    return int(await connection.fetchval(sql))


def _quantiles(latencies: list[float]) -> str:
    cuts = statistics.quantiles(latencies, n=100)
    return f"p50 {cuts[49] * 1000:.0f} ms, p99 {cuts[98] * 1000:.0f} ms ({len(latencies)} probes)"
