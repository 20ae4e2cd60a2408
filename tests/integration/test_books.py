"""The books' difference as a metric: what it finds, and that a batch which is stored meanwhile is none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from prometheus_client import REGISTRY

from pipeline import books
from pipeline.lifecycle import background
from pipeline.postgres import Pool, open_pool
from pipeline.settings import DatabaseSettings
from pipeline.watch import books_of, watch
from tests.site import until


@pytest.fixture
async def pool(database: DatabaseSettings) -> AsyncIterator[Pool]:
    """Two consumers whose books balance: two partitions each, 30 records of which 8 are skipped under two names."""
    pool = await open_pool(database, name="tests")
    await pool.execute("TRUNCATE whatsapp_gateway.progress, whatsapp_gateway.progress_skipped")
    for consumer in ("even", "tampered"):
        await pool.execute(
            """INSERT INTO whatsapp_gateway.progress
               (consumer, topic, partition, first_offset, next_offset, records, written, merged, skipped, dead, gap)
               SELECT $1, 'waha.message', n, 10, 30, 15, 7, 1, 4, 3, 5 FROM generate_series(0, 1) n""",
            consumer,
        )
        await pool.execute(
            """INSERT INTO whatsapp_gateway.progress_skipped (consumer, topic, event, records)
               VALUES ($1, 'waha.message', 'message.ack', 6), ($1, 'waha.message', '', 2)""",
            consumer,
        )
    yield pool
    await pool.close()


def shown(consumer: str) -> float | None:
    """What the metric says."""
    return REGISTRY.get_sample_value("wapipe_books_difference_records", {"consumer": consumer})


@pytest.mark.parametrize(
    ("table", "change", "difference"),
    [
        ("progress", "next_offset = next_offset + 2", 4),  # of two partitions: offsets passed and counted nowhere
        ("progress", "gap = gap + 1", 2),
        ("progress", "written = written - 3", 6),
        ("progress", "records = records + 1", 4),  # it stands in two sums
        ("progress", "skipped = skipped + 1, dead = dead - 1", 2),  # even, but not by name
        ("progress_skipped", "records = records - 1", 2),
    ],
)
async def test_records_unaccounted_for_are_counted(pool: Pool, table: str, change: str, difference: int) -> None:
    for consumer in ("even", "tampered"):
        await books_of(consumer)(pool)
        assert shown(consumer) == 0
    await pool.execute(f"UPDATE whatsapp_gateway.{table} SET {change} WHERE consumer = 'tampered'")
    for consumer in ("even", "tampered"):
        await books_of(consumer)(pool)
    assert (shown("even"), shown("tampered")) == (0, difference)


async def test_a_batch_that_is_stored_between_two_reads_is_no_difference(pool: Pool) -> None:
    async with pool.acquire() as writing:
        transaction = writing.transaction()
        await transaction.start()
        await writing.execute("LOCK TABLE whatsapp_gateway.progress IN ACCESS EXCLUSIVE MODE")
        reading = asyncio.create_task(books.snapshot(pool, "even"))
        await until(lambda: _waits_for_a_lock(pool), "the snapshot to stand between its two reads")
        await writing.execute(
            "UPDATE whatsapp_gateway.progress SET next_offset = next_offset + 1, records = records + 1, "
            "skipped = skipped + 1 WHERE consumer = 'even' AND partition = 0"
        )
        await writing.execute(
            "UPDATE whatsapp_gateway.progress_skipped SET records = records + 1 WHERE consumer = 'even' AND event = ''"
        )
        await transaction.commit()
    found, skipped = await reading
    assert (sum(a.skipped for a in found), sum(s.records for s in skipped)) == (8, 8)
    assert books.difference(found, skipped) == 0
    assert books.difference(*await books.snapshot(pool, "even")) == 0


async def _waits_for_a_lock(pool: Pool) -> bool | None:
    waiting = await pool.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    return True if waiting else None


async def test_it_goes_on_when_the_database_comes_back(pool: Pool) -> None:
    looked: list[str] = []

    async def refused(_: Pool) -> None:
        looked.append("refused")
        raise ConnectionRefusedError

    async def well(_: Pool) -> None:
        looked.append("well")

    async def both() -> bool | None:
        return True if looked.count("well") > 1 else None

    async with background(watch(pool, refused, well, every_s=0.01)):
        await until(both, "a second round")
    assert looked[:4] == ["refused", "well"] * 2
