"""Statements that lock several jobs do it in one order: a batch of the consumer and the downloads never deadlock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from pipeline.media.jobs import Jobs
from tests.integration.files import JPEG, Desk, Files, media_message
from tests.site import until


async def waiting(desk: Desk, count: int) -> None:
    """Until so many statements wait for a lock in this database."""

    async def probe() -> bool | None:
        found = await desk.pool.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return True if found == count else None

    await until(probe, f"{count} statements to wait")


@pytest.mark.parametrize("statement", ["renew", "release", "fail_unknown"])
async def test_a_batch_and_the_downloads_lock_jobs_in_one_order(statement: str, media_desk: Desk, files: Files) -> None:
    """The batch waits for the first job; if the other statement had the second one by then, neither could go on."""
    records = [media_message(f"A{n}", files.add(f"A{n}.jpeg", JPEG)) for n in range(2)]
    await media_desk.told(*records)
    table = "whatsapp_gateway.media_downloads"
    places = [
        (r["chat_id"], r["key"]) for r in await media_desk.pool.fetch(f"SELECT * FROM {table} ORDER BY chat_id, key")
    ]
    jobs = Jobs(media_desk.pool)
    if statement != "fail_unknown":
        assert len(await jobs.take("default", 2, 0)) == 2
    # The first job comes last in whatever order a scan or an index would find them.
    await media_desk.pool.execute(
        f"""UPDATE {table} SET created_at = created_at - interval '1 min', deadline = deadline + interval '1 min',
            next_at = next_at + interval '1 min', leased_until = leased_until + interval '1 min' WHERE key = $1""",
        places[0][1],
    )
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "renew": lambda: jobs.renew(reversed(places)),
        "release": jobs.release,
        "fail_unknown": lambda: jobs.fail_unknown(["another"]),
    }
    async with media_desk.pool.acquire() as connection, connection.transaction():
        await connection.execute(f"SELECT FROM {table} WHERE chat_id = $1 AND key = $2 FOR UPDATE", *places[0])
        batch = asyncio.create_task(media_desk.told(*records))
        await waiting(media_desk, 1)
        other = asyncio.ensure_future(calls[statement]())
        await waiting(media_desk, 2)
    await asyncio.gather(batch, other)
    expected = {"renew": "running", "release": "pending", "fail_unknown": "failed"}[statement]
    assert await media_desk.states() == {expected: 2}
