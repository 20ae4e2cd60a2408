"""Fixtures of tests of media: a server of files, and a database to copy."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from pipeline.migrate import migrate
from pipeline.settings import load_settings
from tests.integration.files import Desk, Files, media_environment, open_desk, serving
from tests.stack import Servers

__all__ = ["files", "media_desk", "migrated_database"]


@pytest.fixture
async def files() -> AsyncIterator[Files]:
    """See Files."""
    async with serving() as found:
        yield found


@pytest.fixture(scope="module")
async def migrated_database(servers: Servers) -> str:
    """The name of a database with wapipe's tables; tests take copies of it."""
    server = await servers.database()
    name = await server.create_database()
    env = {
        "WHATSAPP_DB_HOST": server.host, "WHATSAPP_DB_PORT": str(server.port), "WHATSAPP_DB_USER": server.user,
        "WHATSAPP_DB_PASSWORD": server.password, "WHATSAPP_DB_NAME": name,
    }  # fmt: skip
    await migrate(load_settings(env).database)
    return name


@pytest.fixture
async def media_desk(servers: Servers, files: Files, migrated_database: str) -> AsyncIterator[Desk]:
    """A desk with a database and a bucket of its own."""
    copy = await (await servers.database()).create_database(migrated_database)
    async with open_desk(await media_environment(servers, files, copy)) as found:
        yield found
