"""The query API over a real database: pages, ties, windows of time, index use, a late migration."""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from uuid import UUID

import asyncpg
import httpx
import orjson
import pytest

from pipeline.api import make_app
from pipeline.api.cursor import NEWEST, OLDEST
from pipeline.api.store import WINDOWS, messages_between
from pipeline.migrate import migrate
from pipeline.postgres import open_pool
from pipeline.settings import Settings, load_settings
from schemas.ids import is_group_like
from schemas.keys import ME, PEER, message_key
from schemas.rows import content_rank
from tests.stack import DatabaseServer, Servers

NOW = datetime.now(UTC).replace(microsecond=0)
ALICE, BOB, GROUP = "4915100000001@c.us", "4915100000002@c.us", "120363000000000001@g.us"
_offsets = itertools.count()


@dataclass
class World:
    """A database with rows of our own, and a client of the API over it."""

    connection: asyncpg.Connection[asyncpg.Record]
    http: httpx.AsyncClient

    async def session(self, name: str, **columns: Any) -> int:
        names = ["name", *columns]
        places = ", ".join(f"${i}" for i in range(1, len(names) + 1))
        sql = f"INSERT INTO whatsapp_gateway.sessions ({', '.join(names)}) VALUES ({places}) RETURNING id"
        return int(await self.connection.fetchval(sql, name, *columns.values()))

    async def jid(self, session_id: int, jid: str) -> int:
        sql = """INSERT INTO whatsapp_gateway.jids (session_id, jid) VALUES ($1, $2)
                 ON CONFLICT (session_id, jid) DO UPDATE SET jid = excluded.jid RETURNING id"""
        return int(await self.connection.fetchval(sql, session_id, jid))

    async def message(self, session_id: int, chat: str, raw_id: str, ts: datetime, **more: Any) -> None:
        row: dict[str, Any] = {
            "ts": ts, "received_at": ts + timedelta(seconds=1), "offset": next(_offsets), "partition": 0,
            "lane": 0, "session_id": session_id, "chat_id": await self.jid(session_id, chat),
            "from_me": False, "has_media": False, "raw_id": raw_id, "type": "text", "topic": "waha.message",
        } | more  # fmt: skip
        for name in ("sender", "participant"):
            if name in row:
                row[f"{name}_id"] = await self.jid(session_id, row.pop(name))
        hash_key = await self.connection.fetchval("SELECT hash_key FROM whatsapp_gateway.installation")
        sender = more.get("sender", chat)
        author = ME if row["from_me"] else sender if is_group_like(chat) else PEER
        row["key"] = more.get("key") or UUID(bytes=message_key(hash_key, author, raw_id))
        rank = UUID(bytes=content_rank(0, 0, next(_offsets), b""))
        await self.connection.execute(
            "INSERT INTO whatsapp_gateway.message_keys (chat_id, key, rank, ts) VALUES ($1, $2, $3, $4)",
            row["chat_id"], row["key"], rank, row["ts"],
        )  # fmt: skip
        columns = ", ".join(f'"{name}"' for name in row)
        places = ", ".join(f"${i}" for i in range(1, len(row) + 1))
        sql = f"INSERT INTO whatsapp_gateway.message_content ({columns}) VALUES ({places})"
        await self.connection.execute(sql, *row.values())

    async def get(self, path: str, **query: Any) -> dict[str, Any]:
        answer = await self.http.get(path, params=query)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        assert set(found) == {"items", "next", *(("complete", "gaps") if path.startswith("/api/messages") else ())}
        return found

    async def pages(self, path: str, limit: int) -> list[list[dict[str, Any]]]:
        found, query = list[list[dict[str, Any]]](), {"limit": limit}
        while True:
            page = await self.get(path, **query)
            found.append(page["items"])
            if page["next"] is None:
                return found
            query = {"limit": limit, "before": page["next"]}


@pytest.fixture
async def settings(settings_env: dict[str, str]) -> Settings:
    return load_settings(settings_env)


@pytest.fixture
async def world(settings: Settings, database_server: DatabaseServer) -> AsyncIterator[World]:
    await migrate(settings.database)
    connection = await database_server.connect(settings.database.name)
    pool = await open_pool(settings.database, name="test", max_size=4)
    assert settings.api.token
    headers = {"X-Api-Token": settings.api.token.get_secret_value()}
    transport = httpx.ASGITransport(make_app(settings, pool))
    async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=headers) as http:
        yield World(connection, http)
    await pool.close()
    await connection.close()


def raw_ids(pages: list[list[dict[str, Any]]]) -> list[str]:
    return [item["id"].split("_")[2] for page in pages for item in page]


async def test_a_message_is_read_back_with_all_it_has(world: World) -> None:
    session = await world.session("default")
    extra = {"quoted": {"text": "Where are you?", "participant": BOB}}
    await world.message(
        session, GROUP, "3EB0AA", NOW, sender=ALICE, participant=ALICE, body="Grüße 🌍", reply_to="3EB0BB",
        push_name="Alice", type="image", has_media=True, mimetype="image/jpeg", source="app",
        extra=orjson.dumps(extra).decode(), received_at=NOW + timedelta(milliseconds=412),
    )  # fmt: skip
    page = await world.get(f"/api/messages/default/{GROUP}")
    at = NOW.strftime("%Y-%m-%dT%H:%M:%S")
    assert page == {
        "items": [
            {
                "id": f"false_{GROUP}_3EB0AA_{ALICE}", "session": "default", "chat": GROUP, "sender": ALICE,
                "from_me": False, "timestamp": f"{at}Z", "type": "image", "text": "Grüße 🌍",
                "reply_to": "3EB0BB", "quoted": "Where are you?", "source": "app", "push_name": "Alice",
                "has_media": True,
                "media": {"mimetype": "image/jpeg", "filename": None, "bytes": None, "width": None, "height": None,
                          "seconds": None, "waveform": None, "sha256": None, "state": None, "reason": None, "link": None,
                          "thumbnail": None},
                "location": None, "vcards": None, "poll": None, "received_at": f"{at}.412000Z", "edited_at": None,
                "revoked": None, "ack": None, "reactions": [], "responses": [], "reply": "unknown", "details": None,
                "edits": None, "receipts": None, "flags": [],
            }
        ],
        "next": None,
        "complete": "unknown",
        "gaps": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("extra", "field", "value"),
    [
        ({"location": {"latitude": 52.5, "longitude": 13.4, "name": "Berlin"}}, "location",
         {"latitude": 52.5, "longitude": 13.4, "name": "Berlin",
          "address": None, "url": None, "description": None}),
        ({"vcards": ["BEGIN:VCARD"]}, "vcards", ["BEGIN:VCARD"]),
        ({"poll": {"name": "Lunch?", "options": ["yes", "no"], "selectable": 1}}, "poll",
         {"name": "Lunch?", "options": ["yes", "no"], "selectable": 1, "votes": {"yes": 0, "no": 0}}),
        ({"location": "nowhere", "vcards": 5, "quoted": "x", "poll": {"options": 3}}, "location", None),
        (["not", "an", "object"], "poll", None),
    ],
)  # fmt: skip
async def test_details_of_a_message(world: World, extra: Any, field: str, value: Any) -> None:
    session = await world.session("default")
    await world.message(session, ALICE, "A", NOW, from_me=True, extra=orjson.dumps(extra).decode())
    [item] = (await world.get(f"/api/messages/default/{ALICE}"))["items"]
    assert item["id"] == f"true_{ALICE}_A"
    assert item["sender"] is None
    assert item[field] == value


async def test_a_voice_note_is_shown_with_its_length_and_waveform(world: World) -> None:
    session = await world.session("default")
    measured = {"media": {"bytes": 12345, "seconds": 3, "waveform": [0, 50, 100]}}
    await world.message(
        session, ALICE, "V", NOW, type="voice", has_media=True, mimetype="audio/ogg; codecs=opus",
        extra=orjson.dumps(measured).decode(),
    )  # fmt: skip
    [item] = (await world.get(f"/api/messages/default/{ALICE}"))["items"]
    shown = {name: item["media"][name] for name in ("bytes", "seconds", "waveform")}
    assert (item["type"], shown) == ("voice", measured["media"])
    assert item["details"] is None


@pytest.mark.parametrize(
    "written",
    [
        ALICE,
        quote(ALICE, safe=""),
        "4915100000001@s.whatsapp.net",
        "4915100000001",
        "+49 151 000-00001",
        "%2B4915100000001",
    ],
)
async def test_a_chat_is_found_in_every_form(world: World, written: str) -> None:
    session = await world.session("default")
    await world.message(session, ALICE, "A", NOW)
    await world.message(session, BOB, "B", NOW)
    assert raw_ids([(await world.get(f"/api/messages/default/{written}"))["items"]]) == ["A"]


async def test_sessions_do_not_see_each_other(world: World) -> None:
    for name in ("default", "berlin:default", "empty"):
        session = await world.session(name)
        if name != "empty":
            await world.message(session, ALICE, name.replace(":", "-"), NOW)
    assert raw_ids(await world.pages(f"/api/messages/default/{ALICE}", 10)) == ["default"]
    assert raw_ids(await world.pages(f"/api/messages/berlin:default/{ALICE}", 10)) == ["berlin-default"]
    assert await world.get(f"/api/messages/empty/{ALICE}") == {
        "items": [],
        "next": None,
        "complete": "unknown",
        "gaps": [],
    }
    for path in (f"/api/messages/nobody/{ALICE}", "/api/contacts/nobody"):
        answer = await world.http.get(path)
        assert answer.status_code == 404
        assert answer.json()["type"] == "/problems/no-such-session"


@pytest.mark.parametrize("limit", [1, 3, 7, 500])
async def test_paging_over_ties_returns_each_message_once(world: World, limit: int) -> None:
    """Many messages in the same second, some of them taken in the same moment too."""
    rng, session = random.Random(limit), await world.session("default")
    expected = list[tuple[datetime, datetime, UUID, str]]()
    for n in range(40):
        ts = NOW - timedelta(seconds=rng.randrange(3))
        received_at, key = NOW + timedelta(seconds=rng.randrange(3)), UUID(int=rng.getrandbits(128))
        await world.message(session, ALICE, f"R{n}", ts, received_at=received_at, key=key)
        expected.append((ts, received_at, key, f"R{n}"))
    pages = await world.pages(f"/api/messages/default/{ALICE}", limit)
    assert raw_ids(pages) == [row[3] for row in sorted(expected, reverse=True)]
    assert all(len(page) == limit for page in pages[:-1])
    assert pages[-1]


async def test_a_page_reaches_back_over_the_windows(world: World) -> None:
    """Also for messages exactly on a window's edge, in the far past and in the future."""
    session = await world.session("default")
    edges = [
        timedelta(0),
        timedelta(days=1),
        *WINDOWS,
        *(w + timedelta(seconds=1) for w in WINDOWS),
        timedelta(days=4000),
    ]
    times = sorted([NOW - e for e in edges] + [NOW + timedelta(days=30)], reverse=True)
    for n, ts in enumerate(times):
        await world.message(session, ALICE, f"R{n}", ts)
    wanted = [f"R{n}" for n in range(len(times))]
    for limit in (1, 2, 5, 100):
        assert raw_ids(await world.pages(f"/api/messages/default/{ALICE}", limit)) == wanted


async def test_new_messages_do_not_shift_a_page(world: World) -> None:
    session = await world.session("default")
    for n in range(4):
        await world.message(session, ALICE, f"R{n}", NOW - timedelta(minutes=n))
    first = await world.get(f"/api/messages/default/{ALICE}", limit=2)
    await world.message(session, ALICE, "NEW", NOW + timedelta(minutes=1))
    second = await world.get(f"/api/messages/default/{ALICE}", limit=2, before=first["next"])
    assert raw_ids([first["items"], second["items"]]) == ["R0", "R1", "R2", "R3"]
    other = await world.http.get(f"/api/messages/default/{BOB}", params={"before": first["next"]})
    assert other.status_code == 422


async def test_contacts_and_sessions_are_paged(world: World) -> None:
    names = [f"s{n}" for n in range(7)]
    for name in names:
        session = await world.session(name, status="WORKING", me=ALICE, me_push_name="Alice", engine="NOWEB")
    ids = sorted([f"49151{n:08}@c.us" for n in range(10)] + [GROUP])
    for jid in ids:
        await world.connection.execute(
            """WITH j AS (INSERT INTO whatsapp_gateway.jids (session_id, jid) VALUES ($1, $2) RETURNING id),
                 n AS (INSERT INTO whatsapp_gateway.contact_names SELECT id, 'push', 'x', $3, $3 FROM j)
               INSERT INTO whatsapp_gateway.contacts_seen SELECT id, false, $3, $3 FROM j""",
            session, jid, NOW,
        )  # fmt: skip
    contacts = [item for page in await world.pages("/api/contacts/s6", 3) for item in page]
    assert [c["id"] for c in contacts] == ids
    assert {c["is_group"] for c in contacts if c["id"] == GROUP} == {True}
    assert {c["push_name"] for c in contacts} == {"x"}
    sessions = [item for page in await world.pages("/api/sessions", 3) for item in page]
    assert [s["name"] for s in sessions] == names
    assert sessions[0]["me"] == {"id": ALICE, "lid": None, "push_name": "Alice"}
    assert (await world.get("/api/contacts/s0")) == {"items": [], "next": None}


async def test_the_index_is_used(world: World) -> None:
    """Among 50 chats of 400 messages: one chat's rows come from (chat_id, ts), not from a scan."""
    session = await world.session("default")
    chat = await world.jid(session, ALICE)
    await world.connection.execute(
        """INSERT INTO whatsapp_gateway.message_content
               (ts, received_at, "offset", session_id, chat_id, partition, lane, key, from_me, has_media,
               raw_id, type, topic) SELECT $1::timestamptz - n * interval '1 minute', $1, n, $2, $3::int + n %
               50, 0, 0, gen_random_uuid(), false, false, 'R' || n, 'text', 'waha.message'
           FROM generate_series(0, 19999) n""",
        NOW, session, chat,
    )  # fmt: skip
    await world.connection.execute(
        """INSERT INTO whatsapp_gateway.message_keys (chat_id, key, rank, ts)
           SELECT chat_id, key, key, ts FROM whatsapp_gateway.message_content"""
    )
    await world.connection.execute("ANALYZE whatsapp_gateway.message_content")
    for place in (NEWEST, (NOW - timedelta(days=3), OLDEST, UUID(int=0), 0)):
        sql = messages_between(NOW.replace(hour=0, minute=0, second=0) - timedelta(days=90), place[0])
        plan = await world.connection.fetch(f"EXPLAIN (FORMAT TEXT) {sql}", [chat], *place, 51)
        text = "\n".join(row[0] for row in plan)
        assert "Index" in text, text
        assert "message_content_chat_ts" in text, text
        assert "Seq Scan on message_content" not in text, text
        assert "Seq Scan on _hyper" not in text, text
    assert len(raw_ids(await world.pages(f"/api/messages/default/{ALICE}", 100))) == 400


async def test_pages_come_through_pgbouncer(world: World, settings: Settings, pgbouncer: int) -> None:
    session = await world.session("default")
    for n in range(12):
        await world.message(session, ALICE, f"R{n}", NOW - timedelta(days=30 * n))
    database = settings.database.model_copy(update={"pgbouncer_port": pgbouncer})
    pool = await open_pool(database, name="test", max_size=2)
    transport = httpx.ASGITransport(make_app(settings, pool))
    async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=world.http.headers) as http:
        pages = await World(world.connection, http).pages(f"/api/messages/default/{ALICE}", 5)
    await pool.close()
    assert raw_ids(pages) == [f"R{n}" for n in range(12)]


async def test_an_outage_is_a_503_and_passes() -> None:
    """A server of its own: nobody else's breaks."""
    servers = Servers(lambda _: None)
    try:
        server = await servers.embedded()
        settings = load_settings(
            {
                "WHATSAPP_DB_HOST": server.host, "WHATSAPP_DB_PORT": str(server.port), "WHATSAPP_DB_USER": server.user,
                "WHATSAPP_DB_PASSWORD": server.password, "WHATSAPP_DB_NAME": await server.create_database(),
                "WHATSAPP_GATEWAY_API_TOKEN": "a-token-of-our-own",
            }
        )  # fmt: skip
        await migrate(settings.database)
        app = make_app(settings)
        transport, headers = httpx.ASGITransport(app), {"X-Api-Token": "a-token-of-our-own"}
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://api", headers=headers) as http,
        ):
            assert (await http.get("/api/sessions")).status_code == 200
            await server.child.stop()
            for path in ("/api/sessions", "/ready", f"/api/messages/default/{ALICE}"):
                answer = await http.get(path)
                assert answer.status_code == 503, path
                assert answer.json()["type"] == "/problems/dependency-away"
                assert answer.headers["retry-after"]
            assert (await http.get("/health")).status_code == 200
            await server.child.start()
            await server.child.wait_ready()
            assert (await http.get("/ready")).status_code == 200
            assert (await http.get("/api/sessions")).json() == {"items": [], "next": None}
    finally:
        await servers.close()


async def test_ready_wants_a_migrated_database(settings: Settings) -> None:
    app = make_app(settings)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as http:
        async with app.router.lifespan_context(app):
            before = await http.get("/ready")
            await migrate(settings.database)
            after = await http.get("/ready")
        closed = await http.get("/ready")
    assert before.status_code == 503
    assert before.json()["type"] == "/problems/not-ready"
    assert "wapipe migrate" in before.json()["detail"]
    assert (after.status_code, after.json()["status"]) == (200, "ready")
    assert closed.status_code == 503


async def test_a_database_without_our_tables_is_a_503(settings: Settings) -> None:
    assert settings.api.token
    app = make_app(settings)
    headers = {"X-Api-Token": settings.api.token.get_secret_value()}
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api", headers=headers) as http,
    ):
        answer = await http.get("/api/sessions")
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
