"""Fixtures of tests of media: a server of files, and an empty database."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from pipeline.migrate import migrate
from pipeline.settings import load_settings
from tests.integration.files import Desk, Files, media_environment, open_desk, serving
from tests.stack import Servers

__all__ = ["emptied", "files", "media_desk", "migrated_database"]


@pytest.fixture
async def files() -> AsyncIterator[Files]:
    """See Files."""
    async with serving() as found:
        yield found


@pytest.fixture(scope="module")
async def migrated_database(servers: Servers) -> str:
    """The name of a database with wapipe's tables; each test finds them empty."""
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
    """A desk with an empty database and a bucket of its own."""
    await emptied(servers, migrated_database)
    async with open_desk(await media_environment(servers, files, migrated_database)) as found:
        yield found


async def emptied(servers: Servers, database: str) -> str:
    """The database without rows that tests make. (TimescaleDB's own workers keep it from being copied.)"""
    connection = await (await servers.database()).connect(database)
    try:
        await connection.execute(
            """TRUNCATE whatsapp_gateway.media_downloads, whatsapp_gateway.media_objects, whatsapp_gateway.message_keys,
               whatsapp_gateway.profile_pictures, whatsapp_gateway.contacts_seen, whatsapp_gateway.identities,
               whatsapp_gateway.message_content, whatsapp_gateway.message_revokes, whatsapp_gateway.progress,
               whatsapp_gateway.jids, whatsapp_gateway.sessions"""
        )
    finally:
        await connection.close()
    return database
