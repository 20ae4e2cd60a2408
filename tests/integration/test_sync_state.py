"""Requests as rows, with several processes at once: leases, one request of a chat at a time, priorities, fairness."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pipeline.postgres import Pool, open_pool
from pipeline.sync.coverage import Complete, read_coverage, read_page_coverage
from pipeline.sync.state import SyncState, add_requests
from schemas.sync import Reason, SyncRequest, make_request
from sql import queries
from tests.integration.written import migrated
from tests.stack import DatabaseServer


@pytest.fixture
async def pool(database_server: DatabaseServer) -> AsyncIterator[Pool]:
    """A migrated database of each test's own."""
    pool = await open_pool(await migrated(database_server), name="tests", max_size=20)
    yield pool
    await pool.close()


def asked(session: str, until_s: int, reason: Reason = "manual", chat: str = "all") -> SyncRequest:
    return make_request(session, reason, 0, until_s, chat=chat)


async def add(pool: Pool, *requests: SyncRequest) -> set[str]:
    async with pool.acquire() as connection, connection.transaction():
        return await add_requests(connection, requests)  # type: ignore[arg-type] # the pool's proxy


async def test_of_a_chat_one_request_runs_at_a_time(pool: Pool) -> None:
    await add(pool, *(asked("s", n) for n in range(1, 11)), asked("s", 1, chat="1@c.us"))
    states = [SyncState(pool, f"process {n}") for n in range(16)]
    claimed = [c for c in await asyncio.gather(*(s.claim() for s in states)) if c]
    assert sorted(c.chat for c in claimed) in (["1@c.us", "all"], ["all"], ["1@c.us"])
    for _ in range(5):
        claimed += [c for c in await asyncio.gather(*(s.claim() for s in states)) if c]
    assert sorted(c.chat for c in claimed) == ["1@c.us", "all"]


async def test_the_same_request_and_the_same_open_window_are_one(pool: Pool) -> None:
    first = asked("s", 10)
    assert await add(pool, first, asked("s", 11)) == {first.request_id, asked("s", 11).request_id}
    assert await add(pool, first, asked("s", 10, "gap")) == set()
    state = SyncState(pool, "me")
    claimed = await state.claim()
    assert claimed is not None
    assert await state.complete(claimed)
    again = asked("s", 10, "gap")
    assert await add(pool, first, again) == {again.request_id}


async def test_by_priority_and_then_fairly(pool: Pool) -> None:
    await add(
        pool, asked("a", 1, "periodic"), asked("a", 2, "initial", "1@c.us"), asked("a", 3, "initial", "2@c.us"),
        asked("b", 4, "initial"), asked("a", 5, "gap", "3@c.us"),
    )  # fmt: skip
    state = SyncState(pool, "me")
    order = [(c.session, c.until_s) for _ in range(5) if (c := await state.claim())]
    assert order == [("a", 5), ("b", 4), ("a", 2), ("a", 3), ("a", 1)]


async def test_a_lease_that_ended_is_somebody_elses_at_the_cursor(pool: Pool) -> None:
    await add(pool, asked("s", 100))
    dead, heir = SyncState(pool, "dead", lease_s=0.2), SyncState(pool, "heir")
    claimed = await dead.claim()
    assert claimed is not None
    assert await dead.advance(claimed, 42, 50, 10, 7)
    assert await heir.claim() is None
    await pool.execute("SELECT pg_sleep(0.3)")  # the database's clock is the one that counts
    inherited = await heir.claim()
    assert inherited is not None
    assert (inherited.id, inherited.cursor_s, inherited.page_rows) == (claimed.id, 42, 50)
    assert not await dead.advance(claimed, 43, 50, 1, 1)
    assert not await dead.renew(claimed)
    assert not await dead.complete(claimed)
    assert await heir.complete(inherited)
    [row] = await pool.fetch("SELECT seen, new, pages, status, cursor_s FROM whatsapp_gateway.sync_state")
    assert tuple(row) == (10, 7, 1, "completed", 100)


async def test_a_process_that_stops_gives_its_requests_back(pool: Pool) -> None:
    await add(pool, asked("s", 1), asked("t", 1))
    state = SyncState(pool, "me")
    assert await state.claim()
    assert await state.claim()
    await state.release_all()
    other = SyncState(pool, "other")
    assert await other.claim()
    assert await other.claim()


async def test_what_waits_leaves_others_alone_and_comes_again(pool: Pool) -> None:
    await add(pool, asked("s", 1), asked("s", 2))
    state = SyncState(pool, "me")
    first = await state.claim()
    assert first is not None
    await state.wait(first, "the session is STOPPED", 3600, failed=False, page_rows=25)
    second = await state.claim()
    assert second is not None
    assert second.until_s == 2
    assert await state.claim() is None
    assert await state.complete(second)
    await pool.execute("UPDATE whatsapp_gateway.sync_state SET next_try_at = now()")
    again = await state.claim()
    assert again is not None
    assert (again.id, again.page_rows, again.attempts) == (first.id, 25, 0)
    queue = await pool.fetch("SELECT session, status, place FROM whatsapp_gateway.sync_queue")
    assert [tuple(r) for r in queue] == [("s", "running", 1)]


async def spread(pool: Pool, *chats: str, reason: Reason = "initial") -> SyncState:
    """A state whose one request for all chats has become one for each of these."""
    await add(pool, asked("s", 9, reason))
    state = SyncState(pool, "me")
    claimed = await state.claim()
    assert claimed is not None
    assert await state.spread(claimed, chats)
    return state


async def told(pool: Pool) -> tuple[Complete, str]:
    """What coverage says of the session, and why."""
    coverage = await read_coverage(pool, "s")
    return coverage.complete, coverage.why


async def pages(pool: Pool) -> list[Complete]:
    """What a page says of either chat, and of one that WAHA did not list."""
    return [(await read_page_coverage(pool, "s", [f"{n}@c.us"], 0, 5)).complete for n in (1, 2, 3)]


async def row_of(pool: Pool, chat: str = "all") -> tuple[Any, ...]:
    [row] = await pool.fetch(
        "SELECT status, error, seen, new, cursor_s FROM whatsapp_gateway.sync_state WHERE chat = $1", chat
    )
    return tuple(row)


async def test_what_was_spread_over_chats_ends_with_the_last_of_them(pool: Pool) -> None:
    state = await spread(pool, "1@c.us", "2@c.us")
    assert await row_of(pool) == ("waiting", "for the requests of its 2 chats", 0, 0, None)
    first, second = await state.claim(), await state.claim()
    assert first is not None
    assert second is not None
    assert await state.claim() is None
    for done, one, known in ((1, first, ["false", "false", "false"]), (2, second, ["true", "false", "false"])):
        assert ((await told(pool))[0], await pages(pool)) == ("false", known)
        assert await state.advance(one, 4, 50, 10, 3)
        assert await state.gather() == []
        assert await state.complete(one)
        [whole] = await pool.fetch(queries("sync")["runs"], "s", "all", None, 10)
        assert (whole["chats"], whole["chats_done"], whole["seen"]) == (2, done, 10 * done)
    assert (await told(pool))[0] == "false"  # until it is gathered, by whoever comes first
    found = await asyncio.gather(*(SyncState(pool, str(n)).gather("s") for n in range(8)))
    assert [(e.reason, e.status) for ended in found for e in ended] == [("initial", "completed")]
    assert await row_of(pool) == ("completed", None, 20, 6, 9)
    assert await told(pool) == ("true", "everything that WAHA has was fetched")
    assert await pages(pool) == ["true", "true", "true"]


async def test_a_chat_that_fails_is_told_of_the_whole_and_can_be_resumed(pool: Pool) -> None:
    state = await spread(pool, "1@c.us", "2@c.us")
    first, second = await state.claim(), await state.claim()
    assert first is not None
    assert second is not None
    assert await state.complete(first)
    await state.fail(second, "the engine failed")
    assert [e.status for e in await state.gather()] == ["failed"]
    assert await row_of(pool) == (
        "failed",
        "1 of 2 chats were not fetched: 2@c.us failed: the engine failed",
        0,
        0,
        None,
    )
    assert (await told(pool))[0] == "false"
    assert len(await pool.fetch(queries("sync")["resume"], "s", "2@c.us")) == 1
    assert (await row_of(pool))[:2] == ("waiting", "for the requests of its chats")
    again = await state.claim()
    assert again is not None
    assert again.id == second.id
    assert await state.complete(again)
    assert [e.status for e in await state.gather()] == ["completed"]
    assert (await told(pool))[0] == "true"


async def test_what_was_spread_is_stopped_and_resumed_with_its_chats(pool: Pool) -> None:
    state = await spread(pool, "1@c.us", "2@c.us")
    first = await state.claim()
    assert first is not None
    assert await state.complete(first)
    assert len(await pool.fetch(queries("sync")["stop"], "s", None)) == 2
    assert await state.gather() == []
    assert len(await pool.fetch(queries("sync")["resume"], "s", None)) == 2
    assert (await row_of(pool))[0] == "waiting"
    second = await state.claim()
    assert second is not None
    assert second.chat == "2@c.us"
    assert await state.complete(second)
    assert [e.status for e in await state.gather()] == ["completed"]


async def test_over_no_chats_it_ends_at_once(pool: Pool) -> None:
    state = await spread(pool)
    assert [e.status for e in await state.gather()] == ["completed"]


async def test_who_lost_a_request_spreads_nothing(pool: Pool) -> None:
    await add(pool, asked("s", 9))
    state = SyncState(pool, "me")
    claimed = await state.claim()
    assert claimed is not None
    await pool.fetch(queries("sync")["stop"], None, None)
    assert not await state.spread(claimed, ["1@c.us"])
    assert await pool.fetchval("SELECT count(*) FROM whatsapp_gateway.sync_state") == 1


async def test_a_look_back_of_a_chat_counts_once(pool: Pool) -> None:
    state = await spread(pool, "1@c.us", "2@c.us", reason="periodic")
    for seen in (3, 4):
        claimed = await state.claim()
        assert claimed is not None
        assert await state.advance(claimed, 4, 50, seen, 1)
        assert await state.complete(claimed)
    await state.gather()
    whole, chat = await read_coverage(pool, "s"), await read_coverage(pool, "s", "1@c.us")
    assert (whole.looked_at, whole.missed, chat.looked_at, chat.missed) == (7, 2, 3, 1)
