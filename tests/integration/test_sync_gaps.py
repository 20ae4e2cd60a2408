"""How gaps are found in the tables, and settled by requests."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pipeline.postgres import Pool, open_pool
from pipeline.sync.coverage import read_coverage
from pipeline.sync.state import SyncState, add_requests
from schemas.sync import make_request
from sql import queries
from tests.integration.written import migrated
from tests.stack import DatabaseServer

SQL = queries("gaps")
DAY = 86_400


@pytest.fixture
async def pool(database_server: DatabaseServer) -> AsyncIterator[Pool]:
    pool = await open_pool(await migrated(database_server), name="tests")
    await pool.execute("INSERT INTO whatsapp_gateway.sessions (name) VALUES ('acme'), ('quiet')")
    yield pool
    await pool.close()


async def gaps(pool: Pool) -> list[dict[str, Any]]:
    return [dict(r) for r in await pool.fetch("SELECT * FROM whatsapp_gateway.sync_gaps ORDER BY id")]


async def statuses(pool: Pool, *told: tuple[str, int]) -> None:
    """Of the session acme, so many seconds ago."""
    for status, ago_s in told:
        await pool.execute(
            """INSERT INTO whatsapp_gateway.session_status
               SELECT id, $1, date_trunc('second', now()) - make_interval(secs => $2) FROM whatsapp_gateway.sessions
               WHERE name = 'acme'""",
            status, float(ago_s),
        )  # fmt: skip


async def test_a_session_that_did_not_work(pool: Pool) -> None:
    await statuses(
        pool, ("STARTING", 9000), ("WORKING", 8000), ("FAILED", 7000), ("STARTING", 6900), ("WORKING", 6500),
        ("STOPPED", 3000), ("WORKING", 2000), ("FAILED", 100),
    )  # fmt: skip
    for _ in range(2):
        await pool.execute(SQL["find_not_working"], float(7 * DAY))
        found = [
            (g["session"], g["chat"], g["cause"], g["until_s"] - g["since_s"], g["status"]) for g in await gaps(pool)
        ]
        assert sorted(found) == [
            ("acme", "all", "not_working", 500, "open"), ("acme", "all", "not_working", 1000, "open"),
        ]  # fmt: skip


async def test_an_answer_to_what_is_not_there(pool: Pool) -> None:
    now = time.time()
    await pool.execute(
        "INSERT INTO whatsapp_gateway.jids (session_id, jid) SELECT id, '1@c.us' FROM whatsapp_gateway.sessions"
    )
    chat_id = await pool.fetchval(
        "SELECT j.id FROM whatsapp_gateway.jids j JOIN whatsapp_gateway.sessions s ON s.id = session_id WHERE s.name = 'acme'"
    )
    await pool.execute(
        "INSERT INTO whatsapp_gateway.chat_latest SELECT id, session_id, now() FROM whatsapp_gateway.jids WHERE id = $1",
        chat_id,
    )
    await pool.execute(
        """INSERT INTO whatsapp_gateway.message_keys (chat_id, key, rank, ts)
           SELECT $1, whatsapp_gateway.message_key(hash_key, false, '1@c.us', NULL, 'KNOWN'), gen_random_uuid(), now()
           FROM whatsapp_gateway.installation""",
        chat_id,
    )

    async def answer(quoted: str) -> None:
        await pool.execute(
            """INSERT INTO whatsapp_gateway.message_content
               (ts, received_at, "offset", session_id, chat_id, partition, lane, key, from_me, has_media, raw_id, type,
                reply_to, topic)
               SELECT now(), now(), 0, session_id, id, 0, 0, gen_random_uuid(), false, false, 'R', 'text', $2, 't'
               FROM whatsapp_gateway.jids WHERE id = $1""",
            chat_id, quoted,
        )  # fmt: skip

    await answer("KNOWN")
    await pool.execute(SQL["find_unknown_quotes"], float(7 * DAY))
    assert await gaps(pool) == []
    await answer("UNKNOWN")
    await answer("UNKNOWN TOO")
    for _ in range(2):
        await pool.execute(SQL["find_unknown_quotes"], float(7 * DAY))
    [gap] = await gaps(pool)
    assert (gap["session"], gap["chat"], gap["cause"], gap["evidence"]) == (
        "acme",
        "1@c.us",
        "unknown_quote",
        '{"answers" : 2}',
    )
    assert gap["since_s"] <= now - 7 * DAY < now - 1 <= gap["until_s"] + 1


async def test_gaps_are_settled_by_what_saw_all_of_them(pool: Pool) -> None:
    await statuses(pool, ("WORKING", 8000), ("FAILED", 7000), ("WORKING", 6500))
    await pool.execute(SQL["find_not_working"], float(7 * DAY))
    [gap] = await gaps(pool)
    assert (await read_coverage(pool, "acme")).complete == "false"
    state = SyncState(pool, "me")

    async def run(since_s: int, until_s: int, *, well: bool) -> str:
        request = make_request("acme", "gap", since_s, until_s)
        async with pool.acquire() as connection, connection.transaction():
            await add_requests(connection, [request])  # type: ignore[arg-type] # the pool's proxy
        claimed = await state.claim()
        assert claimed is not None
        await (state.complete(claimed) if well else state.fail(claimed, "the store is off"))
        return request.request_id

    await run(gap["since_s"] + 1, gap["until_s"], well=True)  # does not see all of it
    await pool.execute(SQL["settle"])
    assert [g["status"] for g in await gaps(pool)] == ["open"]
    own = await run(gap["since_s"], gap["until_s"] + 1, well=False)
    await pool.execute(SQL["requested"], gap["id"], own)
    await pool.execute(SQL["settle"])
    assert [g["status"] for g in await gaps(pool)] == ["failed"]
    assert (await read_coverage(pool, "acme")).why.endswith("failed: the store is off")
    await run(gap["since_s"] - 1, gap["until_s"] + 2, well=True)
    await pool.execute(SQL["settle"])
    [closed] = await gaps(pool)
    assert (closed["status"], closed["found"]) == ("closed", 0)
    assert (await read_coverage(pool, "acme")).complete == "true"
    assert (await read_coverage(pool, "quiet")).complete == "unknown"


async def test_old_requests_are_forgotten_when_a_later_one_saw_as_much(pool: Pool) -> None:
    await pool.execute(
        """INSERT INTO whatsapp_gateway.sync_state
           (request_id, session, chat, kind, reason, priority, since_s, until_s, status, finished_at)
           SELECT n::text, 'acme', 'all', 'messages', 'periodic', 3, since, 100, 'completed', now() - ago * interval '1 day'
           FROM (VALUES (1, 50, 9), (2, 10, 8), (3, 40, 5), (4, 20, 1)) AS x (n, since, ago)"""
    )
    await pool.execute(SQL["forget_runs"])
    kept = await pool.fetch("SELECT request_id FROM whatsapp_gateway.sync_state ORDER BY 1")
    assert [r["request_id"] for r in kept] == ["2", "4"]
