"""Requests as rows, with several processes at once: leases, one request of a chat at a time, priorities, fairness."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from pipeline.postgres import Pool, open_pool
from pipeline.sync.state import SyncState, add_requests
from schemas.sync import Reason, SyncRequest, make_request
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
