"""What tests share: a migrated database of each module's own, a desk for the writer, and desks for the runner, which
have a topic of numbers of their own on one database and one broker for all."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from pipeline.postgres import Pool, open_pool
from pipeline.settings import DatabaseSettings, load_settings
from tests.integration import written
from tests.integration.media_fixtures import files, media_desk, migrated_database
from tests.integration.numbers import Desk, numbers_environment
from tests.stack import DatabaseServer

__all__ = ["files", "make_desk", "media_desk", "migrated_database", "numbers_env"]

MakeDesk = Callable[[int], Awaitable[Desk]]


@pytest.fixture(scope="module")
async def database(database_server: DatabaseServer) -> DatabaseSettings:
    """A migrated database of the module's own."""
    return await written.migrated(database_server)


@pytest.fixture(scope="module")
async def pool(database: DatabaseSettings) -> AsyncIterator[Pool]:
    async with await open_pool(database, name="tests") as pool:
        yield pool


@pytest.fixture
def desk(pool: Pool) -> written.Desk:
    """The messages consumer's writer."""
    return written.new_desk(pool)


@pytest.fixture
def session() -> str:
    """A session that no other test writes to."""
    return f"s{secrets.token_hex(4)}"


@pytest.fixture(scope="package")
async def numbers_env(kafka_bootstrap: str, database_server: DatabaseServer) -> dict[str, str]:
    """See numbers_environment."""
    return await numbers_environment(kafka_bootstrap, database_server)


@pytest.fixture
async def make_desk(numbers_env: dict[str, str]) -> AsyncIterator[MakeDesk]:
    """Makes desks with so many partitions."""
    pool = await open_pool(load_settings(numbers_env).database, name="tests")

    async def make(partitions: int) -> Desk:
        desk = Desk(numbers_env, pool, partitions)
        await desk.make_topics()
        return desk

    yield make
    await pool.close()
