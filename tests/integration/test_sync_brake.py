"""Fetching waits for consumers that are behind, by the ends of real topics and the positions in a real database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from pipeline.broker import Publisher, apply_topics
from pipeline.lifecycle import background
from pipeline.migrate import migrate
from pipeline.postgres import Pool, open_pool
from pipeline.settings import Settings, load_settings
from pipeline.sync.brake import Brake, open_ends
from pipeline.sync.state import SyncState
from schemas.topics import BACKFILL, MESSAGE, Topic
from tests.site import until


@pytest.fixture
async def settings(settings_env: dict[str, str]) -> Settings:
    found = load_settings(settings_env | {"WAPIPE_SYNC_MAX_LAG_RECORDS": "300"})
    await migrate(found.database)
    await apply_topics(found.kafka, [MESSAGE, BACKFILL])
    return found


@pytest.fixture
async def pool(settings: Settings) -> AsyncIterator[Pool]:
    pool = await open_pool(settings.database, name="tests")
    yield pool
    await pool.close()


async def put(settings: Settings, topic: Topic, count: int) -> None:
    async with Publisher(settings.kafka) as publisher:
        await publisher.wait_ready(30)
        records: list[tuple[bytes, bytes, list[tuple[str, bytes]]]] = [(b"k", b"v", [])] * count
        assert await publisher.publish_all(topic.name, records, deadline_s=30) == []


async def at(pool: Pool, topic: Topic, offset: int) -> None:
    """The consumer `messages` has stored so many of each partition."""
    await pool.executemany(
        """INSERT INTO whatsapp_gateway.progress (consumer, topic, partition, first_offset, next_offset, records, written)
           VALUES ('messages', $1, $2, 0, $3, $3, $3)
           ON CONFLICT (consumer, topic, partition) DO UPDATE SET next_offset = excluded.next_offset""",
        [(topic.name, p, offset) for p in range(topic.partitions)],
    )


async def test_fetching_waits_for_who_is_behind(settings: Settings, pool: Pool) -> None:
    brake = Brake(SyncState(pool, "me"), pool, settings.kafka, settings.sync)
    await put(settings, MESSAGE, 150)
    await put(settings, BACKFILL, 250)
    async with open_ends(settings.kafka) as ends:

        async def reason() -> str | None:
            await brake.look(ends)
            return brake.reason

        assert await reason() is None, "nobody reads these topics"
        await at(pool, MESSAGE, 0)
        await at(pool, BACKFILL, 0)
        assert await reason() is None, "so few may have come a moment ago"
        await put(settings, BACKFILL, 100)
        assert await reason() == "backfill_lag"
        for _ in range(20):  # what there was comes no more: few may wait
            await reason()
        await put(settings, MESSAGE, 150)
        for _ in range(20):
            await reason()
        assert await reason() == "live_lag"
        waiting = asyncio.create_task(brake.passed(1))
        await asyncio.sleep(0)
        assert not waiting.done()
        await at(pool, MESSAGE, 400)
        await at(pool, BACKFILL, 400)
        assert await reason() is None
        await waiting


async def test_it_looks_by_itself(settings: Settings, pool: Pool) -> None:
    brake = Brake(SyncState(pool, "me"), pool, settings.kafka, settings.sync)
    await put(settings, BACKFILL, 301)
    await at(pool, BACKFILL, 0)
    async with background(brake.watch()):

        async def held() -> bool | None:
            return brake.reason == "backfill_lag" or None

        async def free() -> bool | None:
            return brake.reason is None or None

        await until(held, "fetching to be held")
        await at(pool, BACKFILL, 301)
        await until(free, "fetching to go on")
