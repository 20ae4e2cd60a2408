"""How gaps are found in the tables, and settled by requests."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pipeline.postgres import Pool, open_pool
from pipeline.sync.coverage import read_coverage
from pipeline.sync.state import SyncState, add_requests
from producers.beat import beat
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
    now = await pool.fetchval("SELECT date_trunc('second', now())")  # one for all: a second may end between two of them
    for status, ago_s in told:
        await pool.execute(
            """INSERT INTO whatsapp_gateway.session_status
               SELECT id, $1, $3::timestamptz - make_interval(secs => $2) FROM whatsapp_gateway.sessions
               WHERE name = 'acme'""",
            status, float(ago_s), now,
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

    lid_id = await pool.fetchval(
        """INSERT INTO whatsapp_gateway.jids (session_id, jid)
           SELECT id, '7@lid' FROM whatsapp_gateway.sessions WHERE name = 'acme' RETURNING id"""
    )
    for sql in (
        """INSERT INTO whatsapp_gateway.message_keys (chat_id, key, rank, ts)
           SELECT $2, whatsapp_gateway.message_key(hash_key, false, '7@lid', NULL, 'UNDER THE OTHER ID'), gen_random_uuid(),
                  now() FROM whatsapp_gateway.installation WHERE $1::int IS NOT NULL""",
        """INSERT INTO whatsapp_gateway.identities (lid_id, phone_id, at, fallen, source)
           VALUES ($2, $1, now(), false, 'lids')""",
    ):
        await pool.execute(sql, chat_id, lid_id)

    await answer("KNOWN")
    await answer("UNDER THE OTHER ID")
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


async def test_a_reaction_to_what_is_not_there(pool: Pool) -> None:
    lid, phone, quiet = [
        await pool.fetchval(
            """INSERT INTO whatsapp_gateway.jids (session_id, jid)
               SELECT id, $1 FROM whatsapp_gateway.sessions WHERE name = $2 RETURNING id""",
            jid, session,
        )
        for jid, session in (("7@lid", "acme"), ("1@c.us", "acme"), ("1@c.us", "quiet"))
    ]  # fmt: skip

    async def react(chat_id: int, raw_id: str, ago_s: float, event_id: str = "evt_1") -> None:
        await pool.execute(
            """INSERT INTO whatsapp_gateway.reactions
               SELECT $1, whatsapp_gateway.message_key(hash_key, true, '1@c.us', NULL, $2), $1,
                      now() - make_interval(secs => $3), $4, '👍'
               FROM whatsapp_gateway.installation""",
            chat_id, raw_id, ago_s, event_id,
        )  # fmt: skip

    async def found() -> list[tuple[str, str, str, str]]:
        await pool.execute(SQL["find_unknown_reactions"], float(7 * DAY))
        return sorted((g["session"], g["chat"], g["cause"], g["evidence"]) for g in await gaps(pool))

    await pool.execute(
        """INSERT INTO whatsapp_gateway.message_keys (chat_id, key, rank, ts)
           SELECT $1, whatsapp_gateway.message_key(hash_key, false, '1@c.us', NULL, 'KNOWN'), gen_random_uuid(), now()
           FROM whatsapp_gateway.installation""",
        phone,
    )
    await pool.execute(
        """INSERT INTO whatsapp_gateway.identities (lid_id, phone_id, at, fallen, source)
           VALUES ($1, $2, now(), false, 'lids')""",
        lid, phone,
    )  # fmt: skip
    await react(phone, "KNOWN", 600)
    await react(lid, "KNOWN", 600)  # a twin of the message is there
    await react(phone, "FETCHED", 600, "")
    await react(phone, "LONG AGO", 4000)
    await react(phone, "JUST NOW", 10)
    assert await found() == []
    await react(quiet, "KNOWN", 600)  # of another session
    await react(phone, "UNKNOWN", 600)
    await react(phone, "UNKNOWN TOO", 700)
    for _ in range(2):
        assert await found() == [
            ("acme", "1@c.us", "unknown_reaction", '{"reactions" : 2}'),
            ("quiet", "1@c.us", "unknown_reaction", '{"reactions" : 1}'),
        ]
    span = {(g["until_s"] - g["since_s"]) // DAY for g in await gaps(pool)}
    assert span <= {7, 6}


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


async def test_a_time_in_which_nobody_served_the_webhook(pool: Pool) -> None:
    async def away(ago_s: float) -> None:
        await pool.execute("UPDATE whatsapp_gateway.ingress_beat SET at = now() - make_interval(secs => $1)", ago_s)

    await beat(pool, 0)
    await away(900)
    await beat(pool, 3600)  # it served all the time: the database was away
    assert await gaps(pool) == []
    await away(900)
    await beat(pool, 880)  # a restart
    assert await gaps(pool) == []
    await away(900)
    await beat(pool, 100)
    await beat(pool, 100)
    found = await gaps(pool)
    assert [(g["session"], g["chat"], g["cause"], g["status"]) for g in found] == [
        ("acme", "all", "ingress_down", "open"), ("quiet", "all", "ingress_down", "open"),
    ]  # fmt: skip
    assert 800 <= found[0]["until_s"] - found[0]["since_s"] <= 802


async def test_records_lost_to_retention(pool: Pool) -> None:
    async def lost(consumer: str, topic: str, partition: int, records: int) -> None:
        await pool.execute(
            """INSERT INTO whatsapp_gateway.progress (consumer, topic, partition, first_offset, next_offset, gap)
               VALUES ($1, $2, $3, 0, $4, $4)
               ON CONFLICT (consumer, topic, partition) DO UPDATE SET gap = excluded.gap, next_offset = excluded.gap""",
            consumer, topic, partition, records,
        )  # fmt: skip

    async def find() -> list[tuple[str, str]]:
        await pool.execute("DELETE FROM whatsapp_gateway.sync_gaps")
        await pool.execute(SQL["find_lost"], float(7 * DAY), ["waha.message", "waha.backfill"])
        return [(g["session"], g["evidence"]) for g in await gaps(pool)]

    await lost("messages", "waha.message", 0, 0)
    await lost("contacts", "waha.message", 0, 9)
    await lost("messages", "waha.receipt", 0, 9)
    assert await find() == []
    await lost("messages", "waha.message", 0, 3)
    await lost("messages", "waha.backfill", 1, 4)
    assert await find() == [("acme", '{"records" : 7}'), ("quiet", '{"records" : 7}')]
    assert await find() == []
    await lost("messages", "waha.message", 0, 5)
    assert [e for _, e in await find()] == ['{"records" : 2}'] * 2


async def test_groups_of_which_somebody_came_or_went(pool: Pool) -> None:
    session_id = await pool.fetchval("SELECT id FROM whatsapp_gateway.sessions WHERE name = 'acme'")

    async def member(group: str, ago_s: float, event_id: str) -> None:
        await pool.execute(
            """WITH g AS (INSERT INTO whatsapp_gateway.jids (session_id, jid) VALUES ($1, $2)
                          ON CONFLICT (session_id, jid) DO UPDATE SET jid = excluded.jid RETURNING id)
               INSERT INTO whatsapp_gateway.group_members (group_id, person_id, at, event_id, role)
               SELECT id, 1, now() - make_interval(secs => $3), $4, 'left' FROM g""",
            session_id, group, ago_s, event_id,
        )  # fmt: skip

    async def told() -> list[str]:
        return [f"{r['session']} {r['chat']}" for r in await pool.fetch(SQL["groups_told"])]

    await member("fetched@g.us", 100, "sync_1")
    await member("old@g.us", 4000, "evt_2")
    await member("soon@g.us", 5, "evt_3")
    await member("now@g.us", 100, "evt_4")
    assert await told() == ["acme now@g.us"]
    at_s = int(time.time()) - 50
    request = make_request("acme", "periodic", at_s, at_s, chat="now@g.us", kind="people")
    async with pool.acquire() as connection, connection.transaction():
        await add_requests(connection, [request])  # type: ignore[arg-type] # the pool's proxy
    assert await told() == []
    await member("now@g.us", 31, "evt_5")  # once more, too soon
    assert await told() == []
    await pool.execute("UPDATE whatsapp_gateway.sync_state SET created_at = now() - interval '11 minutes'")
    assert await told() == ["acme now@g.us"]
    await pool.execute("UPDATE whatsapp_gateway.sync_state SET chat = 'all', until_s = until_s + 60")
    assert await told() == []
