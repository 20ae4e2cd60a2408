"""Messages a second of a history fetched onto waha.backfill, against bare loops over the same pages: one that throws the answers
away, one that also sends each message. Same concurrency, libraries and run."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import orjson
from aiokafka import AIOKafkaProducer

from pipeline.broker import Publisher, apply_topics
from pipeline.lifecycle import background
from pipeline.local.ports import free_port
from pipeline.postgres import Pool, open_pool
from pipeline.registry import consumer_names
from pipeline.settings import Settings, load_settings
from pipeline.sync.brake import Brake
from pipeline.sync.state import SyncState, add_requests
from pipeline.sync.worker import SyncWorker
from pipeline.waha import WahaServers
from producers.simulator.rest import SimulatedWaha
from schemas.sync import make_request
from schemas.topics import BACKFILL, all_topics
from tests.bench.common import Site, Table
from tests.bench.history import past

SESSIONS, PAGE = 4, 100
_GET, _SEND, _WAPIPE = "bare loop: GET", "bare loop: GET, send", "wapipe sync"
# How long a real WAHA takes for a page, nobody has published. Assumed is a quick one: Node reads a hundred rows of 1 kB from
# a store and makes a message of each in 40 ms.
_PAGE_MS, _ROW_MS = 20.0, 0.2
Send = Callable[[list[bytes]], Awaitable[None]]


async def run(site: Site, *, rounds: int, messages: int = 6000) -> Table:
    """The table. Every round fetches all messages of all sessions: from a WAHA that answers at once, and from one that takes its
    time."""
    table = Table(f"Sync, {SESSIONS} sessions at a time, pages of {PAGE}, one process", "messages/s", _GET)
    await _at(site, table, rounds, messages, 0.0, 0.0)
    timed = Table("", "messages/s", f"{_GET}, {_PAGE_MS + PAGE * _ROW_MS:.0f} ms a page")
    await _at(site, timed, rounds, messages // 4, _PAGE_MS, _ROW_MS)
    table.notes += [
        f"The same from a WAHA that takes {_PAGE_MS:g} ms for a page and {_ROW_MS:g} ms for each row of it:", "",
        *timed.markdown().splitlines()[2:],
        "The simulated WAHA, the broker, PostgreSQL and the measured process share the cores.",
    ]  # fmt: skip
    return table


async def _at(site: Site, table: Table, rounds: int, messages: int, page_ms: float, row_ms: float) -> None:
    """Rounds with a WAHA that takes so long for a page."""
    port, prefix = free_port(), f"sync{secrets.token_hex(3)}."
    environment = await site.environment(prefix) | {
        "WAPIPE_WAHA_URL": f"http://127.0.0.1:{port}", "WAPIPE_WAHA_RATE_PER_S": "10000",
        "WAPIPE_SYNC_MAX_IN_FLIGHT": str(SESSIONS), "WHATSAPP_SYNC_BATCH_SIZE": str(PAGE),
    }  # fmt: skip
    settings, total = load_settings(environment), SESSIONS * messages
    await apply_topics(settings.kafka, all_topics(consumer_names()))
    there = {name: len(session.all.rows) for name, session in SimulatedWaha(past(SESSIONS, messages)).sessions.items()}
    async with serving_history(port, SESSIONS, messages, page_ms, row_ms):
        await _bare(settings, there, None)  # warm
        for number in range(rounds):
            table.add(table.limit, total / await _bare(settings, there, None))
            async with _producing(settings) as send:
                table.add(_SEND, total / await _bare(settings, there, send))
            table.add(_WAPIPE, total / await _wapipe(settings, messages, number))


async def _bare(settings: Settings, there: dict[str, int], send: Send | None) -> float:
    """Seconds to page all sessions by offset; `there` are the rows that each has."""
    url = settings.waha.base_urls()["default"]
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as http:

        async def sweep(session: str, rows_there: int) -> None:
            for offset in range(0, rows_there, PAGE):  # hidden ones included: pages are shorter by them
                params: dict[str, str | int] = {
                    "limit": PAGE,
                    "offset": offset,
                    "downloadMedia": "false",
                    "sortBy": "timestamp",
                    "sortOrder": "asc",
                }
                rows = orjson.loads((await http.get(f"/api/{session}/chats/all/messages", params=params)).content)
                if send is not None:
                    await send([orjson.dumps(row) for row in rows])

        started = time.perf_counter()
        await asyncio.gather(*(sweep(name, rows_there) for name, rows_there in there.items()))
        return time.perf_counter() - started


@contextlib.asynccontextmanager
async def _producing(settings: Settings) -> AsyncIterator[Send]:
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka.bootstrap_servers,
        acks="all",
        enable_idempotence=True,
        max_batch_size=256 * 1024,
    )
    await producer.start()
    topic = settings.kafka.topic_prefix + BACKFILL.name

    async def send(values: list[bytes]) -> None:
        await asyncio.gather(*[await producer.send(topic, value) for value in values])

    try:
        yield send
    finally:
        await producer.stop()


async def _wapipe(settings: Settings, messages: int, number: int) -> float:
    """Seconds from the moment that the requests are there until the last one is completed."""
    pool = await open_pool(settings.database, name="bench", max_size=SESSIONS + 2)
    try:
        async with WahaServers(settings.waha) as servers, Publisher(settings.kafka) as publisher:
            await publisher.wait_ready(30)
            state = SyncState(pool, "bench")
            worker = SyncWorker(
                state, servers, publisher, Brake(state, pool, settings.kafka, settings.sync), settings.sync
            )
            whole = past(SESSIONS, messages)
            requests = [make_request(name, "manual", 0, whole.end_s + number) for name in _names()]
            async with pool.acquire() as connection, connection.transaction():
                await add_requests(connection, requests)  # type: ignore[arg-type] # the pool's proxy
            started = time.perf_counter()
            async with background(worker.run()):
                await _ended(pool)
            seconds = time.perf_counter() - started
        seen = await pool.fetchval(
            "SELECT sum(seen) FROM whatsapp_gateway.sync_state WHERE status = 'completed' AND NOT spread"
        )
        if seen != SESSIONS * messages * (number + 1):
            raise RuntimeError(f"{seen} messages were fetched")
        return seconds
    finally:
        await pool.close()


async def _ended(pool: Pool) -> None:
    while await pool.fetchval("SELECT count(*) FROM whatsapp_gateway.sync_queue"):  # noqa: ASYNC110 - another's rows
        await asyncio.sleep(0.05)


def _names() -> list[str]:
    return [f"demo-{n + 1:02d}" for n in range(SESSIONS)]


@contextlib.asynccontextmanager
async def serving_history(
    port: int, sessions: int, messages: int, page_ms: float = 0.0, row_ms: float = 0.0
) -> AsyncIterator[None]:
    """A simulated WAHA with so many sessions of so many messages, as a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.history", *map(str, (port, sessions, messages, page_ms, row_ms))
    )
    try:
        async with httpx.AsyncClient(trust_env=False) as http:
            for _ in range(600):
                with contextlib.suppress(httpx.TransportError):
                    await http.get(f"http://127.0.0.1:{port}/ping")
                    break
                await asyncio.sleep(0.1)
        yield
    finally:
        process.terminate()
        await process.wait()
