"""When a session was last heard of: kept up by messages and states, and the count of those that fell silent."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, cast

import orjson
import pytest
from prometheus_client import REGISTRY

from consumers.sessions import Sessions, silent_sessions
from pipeline.broker import Publisher
from pipeline.postgres import Pool, open_pool
from pipeline.settings import DatabaseSettings
from pipeline.write import Writer
from schemas.topics import BACKFILL, SESSION
from tests.integration.written import Record, message, new_desk, numbered, store
from tests.unit.ingress_client import Remembering

MINUTE_MS = 60_000
NOW_MS = time.time_ns() // 1_000_000


@pytest.fixture
async def pool(database: DatabaseSettings) -> AsyncIterator[Pool]:
    pool = await open_pool(database, name="tests")
    await pool.execute("UPDATE whatsapp_gateway.sessions SET status = 'STOPPED'")
    yield pool
    await pool.close()


async def say(pool: Pool, *records: Record) -> None:
    """Messages, as one batch of a consumer that never was here before."""
    await new_desk(pool).store(numbered(records))


async def state(pool: Pool, session: str, status: str, at_ms: int) -> None:
    """A session.status."""
    body = {"event": "session.status", "session": session, "timestamp": at_ms, "payload": {"status": status}}
    consumer: Any = Sessions(pool)
    consumer.name = f"sessions-{secrets.token_hex(4)}"
    record = Record(orjson.dumps(body), "session.status", SESSION.name, received_at_ms=at_ms)
    await store(Writer(consumer, pool, cast(Publisher, Remembering())), consumer, [record])


async def heard_ms(pool: Pool, session: str) -> int | None:
    at: datetime | None = await pool.fetchval(
        "SELECT last_event_at FROM whatsapp_gateway.sessions WHERE name = $1", session
    )
    return round((at - datetime.fromtimestamp(0, UTC)).total_seconds() * 1000) if at else None


async def silent(pool: Pool, after_s: float) -> float | None:
    await silent_sessions(after_s)(pool)
    return REGISTRY.get_sample_value("wapipe_silent_sessions")


def spoken(session: str, at_ms: int, **more: Any) -> Record:
    return Record(message(secrets.token_hex(6), session=session), received_at_ms=at_ms, **more)


async def test_messages_and_states_keep_it_up(pool: Pool, session: str) -> None:
    await say(pool, spoken(session, NOW_MS - 60 * MINUTE_MS), spoken(session, NOW_MS - 50 * MINUTE_MS))
    assert await heard_ms(pool, session) == NOW_MS - 50 * MINUTE_MS
    await state(pool, session, "WORKING", NOW_MS - 40 * MINUTE_MS)
    assert await heard_ms(pool, session) == NOW_MS - 40 * MINUTE_MS
    await say(pool, spoken(session, NOW_MS - 30 * MINUTE_MS))
    assert await heard_ms(pool, session) == NOW_MS - 30 * MINUTE_MS
    await say(pool, spoken(session, NOW_MS - 45 * MINUTE_MS))  # late
    await state(pool, session, "STOPPED", NOW_MS - 35 * MINUTE_MS)  # newer than the state, older than the message
    assert await heard_ms(pool, session) == NOW_MS - 30 * MINUTE_MS


async def test_a_busy_session_is_noted_once_a_minute(pool: Pool, session: str) -> None:
    await say(pool, spoken(session, NOW_MS))
    await say(pool, spoken(session, NOW_MS + MINUTE_MS - 1))
    assert await heard_ms(pool, session) == NOW_MS
    await say(pool, spoken(session, NOW_MS + MINUTE_MS + 1))
    assert await heard_ms(pool, session) == NOW_MS + MINUTE_MS + 1


async def test_history_is_no_sign_of_life(pool: Pool, session: str) -> None:
    await say(pool, spoken(session, NOW_MS, topic=BACKFILL.name))
    assert await heard_ms(pool, session) is None


async def test_a_row_that_is_being_written_is_not_waited_for(pool: Pool, session: str) -> None:
    desk = new_desk(pool)
    await desk.store(numbered([spoken(session, NOW_MS - 60 * MINUTE_MS)]))
    async with pool.acquire() as other, other.transaction():
        await other.execute("UPDATE whatsapp_gateway.sessions SET me = 'x' WHERE name = $1", session)
        await desk.store(numbered([spoken(session, NOW_MS)], 1))  # waiting would end in an error after a minute
        assert await heard_ms(pool, session) == NOW_MS - 60 * MINUTE_MS
    await desk.store(numbered([spoken(session, NOW_MS)], 2))
    assert await heard_ms(pool, session) == NOW_MS


async def test_only_working_sessions_are_silent(pool: Pool, session: str) -> None:
    old = NOW_MS - 120 * MINUTE_MS
    for name, status in ((session, "WORKING"), (f"{session}-b", "WORKING"), (f"{session}-c", "SCAN_QR_CODE")):
        await state(pool, name, status, old)
    assert await silent(pool, 3600) == 2
    assert await silent(pool, 3 * 3600) == 0
    await say(pool, spoken(f"{session}-b", NOW_MS))
    assert await silent(pool, 3600) == 1
    await state(pool, session, "FAILED", NOW_MS)
    assert await silent(pool, 3600) == 0
