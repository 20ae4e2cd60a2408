"""What a page of messages says of its own completeness: from the requests that ended, and the gaps that are open."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from pipeline.api import make_app
from pipeline.postgres import Pool, open_pool
from pipeline.settings import Settings, load_settings
from pipeline.sync.coverage import read_coverage, read_page_coverage
from tests.integration.written import migrated
from tests.stack import DatabaseServer

CHAT, HIDDEN, OTHER = "4915100000001@c.us", "777@lid", "4915100000002@c.us"
AHEAD = 2**40


@pytest.fixture
def settings(settings_env: dict[str, str]) -> Settings:
    return load_settings(settings_env)


@pytest.fixture
async def pool(database_server: DatabaseServer) -> AsyncIterator[Pool]:
    pool = await open_pool(await migrated(database_server), name="tests")
    await pool.execute("INSERT INTO whatsapp_gateway.sessions (name) VALUES ('acme')")
    yield pool
    await pool.close()


async def run(pool: Pool, since_s: int, until_s: int, status: str = "completed", chat: str = "all") -> None:
    await pool.execute(
        """INSERT INTO whatsapp_gateway.sync_state (request_id, session, chat, kind, reason, priority, since_s, until_s, status)
           VALUES (gen_random_uuid()::text, 'acme', $1, 'messages', 'periodic', 3, $2, $3, $4)""",
        chat, since_s, until_s, status,
    )  # fmt: skip


async def gap(pool: Pool, since_s: int, until_s: int, status: str = "open", chat: str = "all") -> None:
    await pool.execute(
        """INSERT INTO whatsapp_gateway.sync_gaps (session, chat, cause, since_s, until_s, evidence, status)
           VALUES ('acme', $1, 'not_working', $2, $3, '{}', $4)""",
        chat, since_s, until_s, status,
    )  # fmt: skip


async def said(pool: Pool, since_s: int, until_s: int = AHEAD) -> tuple[str, int]:
    found = await read_page_coverage(pool, "acme", [CHAT, HIDDEN], since_s, until_s)
    return found.complete, len(found.gaps)


async def test_what_was_fetched(pool: Pool) -> None:
    assert await said(pool, 0) == ("unknown", 0)
    await run(pool, 100, 200)
    await run(pool, 201, 300)  # the next second: no hole
    await run(pool, 400, 500, chat=HIDDEN)
    await run(pool, 0, 1000, chat=OTHER)
    await run(pool, 0, 1000, "stopped")
    assert await said(pool, 100, 300) == ("true", 0)
    assert await said(pool, 99, 300) == ("unknown", 0)
    assert await said(pool, 250) == ("unknown", 0)  # 301 to 399 was never fetched
    assert await said(pool, 420) == ("true", 0)  # later ones come by webhook
    assert await said(pool, 600) == ("unknown", 0)  # a page that begins after all that was fetched
    await run(pool, 450, 700, "failed")
    assert await said(pool, 420) == ("false", 0)
    assert await said(pool, 400, 440) == ("true", 0)
    await run(pool, 300, 700, chat=CHAT)
    assert await said(pool, 420) == ("true", 0)


async def test_gaps_of_the_page(pool: Pool) -> None:
    await run(pool, 0, 1000)
    await gap(pool, 100, 200)
    await gap(pool, 110, 200, "closed")
    await gap(pool, 300, 300, "failed", HIDDEN)
    await gap(pool, 400, 500, chat=OTHER)
    assert await said(pool, 0) == ("false", 2)
    assert await said(pool, 200, 299) == ("false", 1)
    assert await said(pool, 201, 299) == ("true", 0)
    assert await said(pool, 301) == ("true", 0)


async def test_a_session_is_not_complete_before_its_chats_are(pool: Pool) -> None:
    """WEBJS and WPP: the request for all chats ends when those of its chats are made."""
    await run(pool, 0, 1000)
    assert (await read_coverage(pool, "acme")).complete == "true"
    await run(pool, 10, 2000, "pending", CHAT)
    assert (await read_coverage(pool, "acme")).complete == "false"
    assert (await read_coverage(pool, "acme", OTHER)).complete == "true"


async def test_pages_say_it(pool: Pool, settings: Settings, database_server: DatabaseServer) -> None:
    await pool.execute(
        "INSERT INTO whatsapp_gateway.jids (session_id, jid) SELECT id, $1 FROM whatsapp_gateway.sessions", CHAT
    )
    for at_s in (100, 200, 300):
        await pool.execute(
            """WITH key AS (
                   INSERT INTO whatsapp_gateway.message_keys (chat_id, key, rank, ts, first_at)
                   SELECT j.id, whatsapp_gateway.message_key(hash_key, false, jid, NULL, $1), gen_random_uuid(), $2, $2
                   FROM whatsapp_gateway.jids j, whatsapp_gateway.installation RETURNING *)
               INSERT INTO whatsapp_gateway.message_content
                   (ts, received_at, "offset", session_id, chat_id, partition, lane, key, from_me, has_media, raw_id, type, topic)
               SELECT ts, ts, 0, 1, chat_id, 0, 0, key, false, false, $1, 'text', 't' FROM key""",
            f"R{at_s}", datetime.fromtimestamp(at_s, UTC),
        )  # fmt: skip
    await run(pool, 150, 1000)
    await gap(pool, 210, 220)
    assert settings.api.token
    headers = {"X-Api-Token": settings.api.token.get_secret_value()}
    transport = httpx.ASGITransport(make_app(settings, pool))
    async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=headers) as http:
        pages: list[dict[str, Any]] = []
        query: dict[str, Any] = {"limit": 1}
        while True:
            pages.append((await http.get(f"/api/messages/acme/{CHAT}", params=query)).raise_for_status().json())
            if pages[-1]["next"] is None:
                break
            query["before"] = pages[-1]["next"]
        ones = [
            (await http.get(f"/api/messages/acme/{CHAT}/R{at_s}")).raise_for_status().json() for at_s in (300, 200, 100)
        ]
    # What is said of a message comes after it, so a gap behind it matters too.
    assert [(m["timestamp"], m["complete"], len(m["gaps"])) for m in ones] == [
        ("1970-01-01T00:05:00Z", "true", 0), ("1970-01-01T00:03:20Z", "false", 1), ("1970-01-01T00:01:40Z", "false", 1),
    ]  # fmt: skip
    assert [(p["items"][0]["timestamp"][-3:-1], p["complete"], len(p["gaps"])) for p in pages] == [
        ("00", "true", 0), ("20", "false", 1), ("40", "unknown", 0),
    ]  # fmt: skip
    assert pages[1]["gaps"] == [{
        "chat": "all", "cause": "not_working", "since": "1970-01-01T00:03:30Z", "until": "1970-01-01T00:03:40Z",
        "status": "open",
    }]  # fmt: skip
