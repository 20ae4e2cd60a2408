"""The watchdog over sessions whose webhooks have stopped, on a real database and a simulated WAHA."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pipeline import metrics
from pipeline.postgres import Pool, open_pool
from pipeline.sync.watchdog import LONGEST_S, SHORTEST_S, Watchdog, allowed_s
from pipeline.waha import Limits, Waha, WahaClient
from producers.simulator.rest import Past, RestServer, SimulatedWaha
from tests.integration.written import migrated
from tests.simulated_waha import served
from tests.stack import DatabaseServer

NAME = "demo-01"


@pytest.fixture
async def pool(database_server: DatabaseServer) -> AsyncIterator[Pool]:
    pool = await open_pool(await migrated(database_server), name="tests")
    await pool.execute("INSERT INTO whatsapp_gateway.sessions (name) VALUES ($1)", NAME)
    yield pool
    await pool.close()


@pytest.fixture
def server() -> RestServer:
    """Its newest message is a minute old."""
    past = Past(engines=("GOWS",), sessions=1, chats=3, messages=60, days=0.5, end_s=int(time.time()) - 60)
    return RestServer(SimulatedWaha(past))


@pytest.fixture
async def waha(server: RestServer) -> AsyncIterator[Waha]:
    async with served(server) as url, WahaClient(url, None, Limits(rate_per_s=1000)) as client:
        yield Waha(client)


async def heard(pool: Pool, ago_s: float) -> None:
    await pool.execute("UPDATE whatsapp_gateway.sessions SET last_event_at = now() - make_interval(secs => $1)", ago_s)


async def chats(pool: Pool, *ago_s: float) -> None:
    """Chats that fell silent so long ago."""
    for n, ago in enumerate(ago_s):
        await pool.execute(
            """WITH j AS (INSERT INTO whatsapp_gateway.jids (session_id, jid) SELECT id, $1 FROM whatsapp_gateway.sessions
                          RETURNING id, session_id)
               INSERT INTO whatsapp_gateway.chat_latest SELECT id, session_id, now() - make_interval(secs => $2) FROM j""",
            f"{n}@c.us", ago,
        )  # fmt: skip


async def gaps(pool: Pool) -> list[dict[str, Any]]:
    return [dict(r) for r in await pool.fetch("SELECT * FROM whatsapp_gateway.sync_gaps ORDER BY id")]


def restarts(server: RestServer) -> int:
    return server.requests["/api/sessions/{session}/{act}"]


def test_how_long_is_usual() -> None:
    assert [allowed_s(s) for s in (None, 0.0, 600.0, 90_000.0)] == [LONGEST_S, SHORTEST_S, 1800.0, LONGEST_S]


async def test_a_session_that_went_deaf(pool: Pool, waha: Waha, server: RestServer) -> None:
    now = time.time()
    dog = Watchdog(pool, restart=True, clock=lambda: now)
    asked = "/api/{session}/chats/overview"
    await heard(pool, 3000)
    await dog.look(waha, [NAME])  # nobody knows its rhythm: 50 minutes are not long
    assert server.requests[asked] == 0
    await chats(pool, 3000, 3100, 3400, 3700, 4100)  # by its rhythm they are
    for _ in range(2):
        await dog.look(waha, [NAME])
        assert server.requests[asked] == 1  # and it is not asked about again at once
    [gap] = await gaps(pool)
    assert (gap["session"], gap["chat"], gap["cause"], gap["status"]) == (NAME, "all", "silent", "open")
    assert 2990 <= gap["until_s"] - gap["since_s"] <= 3010
    assert metrics.SYNC_DEAF._value.get() == 1
    assert restarts(server) == 1

    await pool.execute("UPDATE whatsapp_gateway.sync_gaps SET status = 'closed', request_id = 'r', closed_at = now()")
    now += 1500
    await dog.look(waha, [NAME])
    [longer] = await gaps(pool)
    assert (longer["status"], longer["request_id"], longer["until_s"] - gap["until_s"]) == ("open", None, 1500)
    assert restarts(server) == 1  # hourly at most

    await heard(pool, 5)
    await dog.look(waha, [NAME])
    assert metrics.SYNC_DEAF._value.get() == 0


async def test_a_session_that_has_nothing_to_say(pool: Pool, waha: Waha, server: RestServer) -> None:
    dog = Watchdog(pool, restart=False)
    await chats(pool, 9000, 9100)
    await heard(pool, 9000)
    session = server.waha.sessions[NAME]
    for message in list(session.by_raw_id.values()):
        if message.timestamp > time.time() - 9000:
            session.revoke(message)
    await dog.look(waha, [NAME])
    assert server.requests["/api/{session}/chats/overview"] == 1
    assert await gaps(pool) == []
    assert restarts(server) == 0
