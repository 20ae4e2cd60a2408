"""Reading: pages of a chat from a full database, the rows alone and with everything that is said of them.

The tables are filled by SQL: chats of 5,000 messages, every second one a group of twenty, over as many weeks as chunks.
Pages are read one after the other, each of another chat, on a warm pool: the times are of one reader.
"""

from __future__ import annotations

import random
import re
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import asyncpg
import httpx

from pipeline.api import make_app
from pipeline.api.cursor import NEWEST
from pipeline.api.gather import Chat, ranges
from pipeline.api.store import WINDOWS, Store, _rows_before, messages_between
from pipeline.postgres import open_pool
from pipeline.settings import Settings, load_settings
from sql import queries
from tests.bench.common import Site, connect

PAGE = 50
_CHAT_MESSAGES = 5_000
_NAMES = 20_000
_SESSION = "reading"
_SECONDS_A_CHUNK = 7 * 86_400


@dataclass(slots=True)
class Times:
    """Milliseconds of each page, by what was read, with the CPU that this process used."""

    title: str
    goals: dict[str, str] = field(default_factory=dict)
    wall: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        lines = [
            f"### {self.title}",
            "",
            "| | p50 ms | p95 ms | goal (p95) | CPU of the API a message, µs | pages |",
            "|---|---|---|---|---|---|",
        ]
        for name, wall in self.wall.items():
            p95 = statistics.quantiles(wall, n=20)[-1]
            cpu = statistics.median(self.cpu[name]) / PAGE * 1000
            lines.append(
                f"| {name} | {statistics.median(wall):.1f} | {p95:.1f} | {self.goals.get(name, '')} | {cpu:.0f} | {len(wall)} |"
            )
        return "\n".join([*lines, "", *self.notes, ""])


async def run(site: Site, *, messages: int, chunks: int, pages: int = 300) -> Times:
    """Fills a database and reads from it."""
    settings = load_settings(await site.environment("reading."))
    await fill(settings, messages, chunks)
    times = Times(f"Reading pages of {PAGE} from {messages:,} messages in {chunks} chunks")
    pool = await open_pool(settings.database, name="bench", max_size=1)
    try:
        times.notes += ["Plans (EXPLAIN ANALYZE):", "", *await plans(pool)]
        await _measure(times, settings, pool, pages)
    finally:
        await pool.close()
    return times


async def _measure(times: Times, settings: Settings, pool: asyncpg.Pool[asyncpg.Record], pages: int) -> None:
    jids = [row["jid"] for row in await pool.fetch("SELECT jid FROM whatsapp_gateway.jids WHERE id IN "
            "(SELECT chat_id FROM whatsapp_gateway.chat_latest) ORDER BY id")]  # fmt: skip
    store, rng = Store(pool), random.Random(7)
    assert settings.api.token
    headers = {"X-Api-Token": settings.api.token.get_secret_value()}
    transport = httpx.ASGITransport(make_app(settings, pool))

    async def rows_alone(jid: str) -> int:
        async with store.connection() as connection:
            found = await connection.fetch(queries("api")["session_and_chats"], _SESSION, [jid])
            return len(await _rows_before(connection, [row["chat_id"] for row in found], NEWEST, PAGE))

    async def with_facts(jid: str) -> int:
        part = await store.messages(_SESSION, jid, None, PAGE)
        assert part is not None
        return len(part.page.shown)

    async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=headers) as http:

        async def as_json(jid: str) -> int:
            answer = await http.get(f"/api/messages/{_SESSION}/{jid}", params={"include": ["edits", "receipts"]})
            return len(answer.json()["items"])

        async def search(jid: str) -> int:
            await http.get(f"/api/contacts/{_SESSION}", params={"q": f"Name {jid[8:12]}"})
            return PAGE

        async def chats(_: str) -> int:
            return len((await http.get(f"/api/chats/{_SESSION}")).json()["items"])

        times.goals = {"rows alone": "5", "with all facts": "15"}
        await _read(times, "rows alone", rows_alone, jids, pages, rng)
        await _read(times, "with all facts", with_facts, jids, pages, rng)
        await _read(times, "with all facts, as JSON over HTTP (in process)", as_json, jids, pages, rng)
        await _read(times, f"the {min(PAGE, len(jids))} newest chats, as JSON", chats, jids, max(20, pages // 10), rng)
        await _read(times, f"search among {_NAMES:,} names, as JSON", search, jids, max(20, pages // 10), rng)


async def _read(
    times: Times, name: str, page: Callable[[str], Awaitable[int]], jids: list[str], pages: int, rng: random.Random
) -> None:
    for jid in rng.choices(jids, k=10):  # plans and catalogues are loaded
        await page(jid)
    wall, cpu = times.wall.setdefault(name, []), times.cpu.setdefault(name, [])
    for jid in rng.choices(jids, k=pages):
        started, used = time.perf_counter(), time.process_time()
        found = await page(jid)
        wall.append((time.perf_counter() - started) * 1000)
        cpu.append((time.process_time() - used) * 1000)
        if found < min(PAGE, len(jids)):
            raise RuntimeError(f"{name}: a page of {found}")
    print(f"  {name}: p50 {statistics.median(wall):.1f} ms", file=sys.stderr, flush=True)


async def plans(pool: asyncpg.Pool[asyncpg.Record]) -> list[str]:
    """How a page and what is said of it are found. Raises RuntimeError for a scan of a whole table."""
    async with pool.acquire() as connection:
        row = await connection.fetchrow(
            "SELECT l.chat_id, l.session_id, j.jid FROM whatsapp_gateway.chat_latest l "
            "JOIN whatsapp_gateway.jids j ON j.id = l.chat_id LIMIT 1"
        )
        assert row is not None
        chat_ids, lower = [row["chat_id"]], datetime.now(UTC) - WINDOWS[0]
        rows = await _rows_before(connection, chat_ids, NEWEST, PAGE)
        where = ranges(
            Chat(_SESSION, row["session_id"], {row["chat_id"]: row["jid"]}), [(r["chat_id"], r["key"]) for r in rows]
        )
        midnight = lower.replace(hour=0, minute=0, second=0, microsecond=0)
        return [
            await _plan(connection, "page", messages_between(midnight, NEWEST.ts), chat_ids, *NEWEST, PAGE),
            await _plan(connection, "facts", queries("api")["facts"], *where),
        ]


_BIG = "message_\\w+|_hyper_\\w+|reactions|poll_votes|event_responses"


async def _plan(connection: Any, name: str, sql: str, *arguments: object) -> str:
    """What a statement scans, and how long it takes."""
    lines = await connection.fetch(f"EXPLAIN (ANALYZE, BUFFERS) {sql}", *arguments)
    plan = "\n".join(line[0] for line in lines)
    if whole := re.findall(rf"Seq Scan on (?:{_BIG})", plan):
        raise RuntimeError(f"{name} reads whole tables: {whole}\n{plan}")
    # Chunks and their indexes have numbers; one of each kind is named.
    found = re.findall(
        r"((?:Bitmap )?(?:Index|Seq)[\w ]* (?:using|on) \w+)", re.sub(r"_hyper_\d+_\d+_chunk", "chunk", plan)
    )
    scans = sorted({re.sub(r"\b\d+_\d+_", "", scan) for scan in found})
    buffers = sum(int(hit) for hit in re.findall(r"shared hit=(\d+)", lines[0][0] + lines[1][0])[:1])
    took = re.search(r"Execution Time: ([\d.]+)", plan)
    assert took is not None
    return f"- {name}: {took[1]} ms, {buffers} buffers; {', '.join(scans)}"


async def fill(settings: Settings, messages: int, chunks: int) -> None:
    """Messages with facts, each part in a statement of its own, the newest ones of now."""
    connection = await connect(settings)
    chats = max(20, messages // _CHAT_MESSAGES)
    step = chunks * _SECONDS_A_CHUNK / messages
    try:
        await connection.execute(_DICTIONARY, _SESSION, chats)
        for start in range(0, messages, 250_000):
            await connection.execute(_MESSAGES, start, min(messages, start + 250_000) - 1, chats, step)
            print(f"  {min(messages, start + 250_000):,} filled", file=sys.stderr, flush=True)
        for sql in (_ACKS, _EDITS, _REACTIONS, _REVOKES, _LATEST):
            await connection.execute(sql)
        await connection.execute(_CONTACTS, _NAMES)
        for table in (
            "message_keys",
            "message_content",
            "message_acks",
            "message_edits",
            "reactions",
            "message_revokes",
        ):
            await connection.execute(f"ANALYZE whatsapp_gateway.{table}")
        await connection.execute("CHECKPOINT")
        opened = await connection.fetchval(
            "SELECT count(*) FROM pg_inherits WHERE inhparent = 'whatsapp_gateway.message_content'::regclass"
        )
        print(f"  {opened} chunks", file=sys.stderr, flush=True)
    finally:
        await connection.close()


# Chats have even and odd numbers from 1 on: odd ones are direct, even ones groups; then come twenty people.
_DICTIONARY = """
WITH s AS (INSERT INTO whatsapp_gateway.sessions (name, me_at, me) VALUES ($1, now(), '4915199999999@c.us') RETURNING id)
INSERT INTO whatsapp_gateway.jids (session_id, jid)
SELECT s.id, CASE WHEN n > $2::int THEN 4915200000000 + n || '@c.us'
                  WHEN n % 2 = 0 THEN 120363000000000000 + n || '@g.us' ELSE 4915100000000 + n || '@c.us' END
FROM s, generate_series(1, $2::int + 20) n ORDER BY n
"""
_MESSAGES = """
WITH made AS (
    SELECT n, 1 + n % $3::int AS chat, n / $3::int % 3 = 0 AS own, upper(md5(n::text)) AS raw_id,
           now() - (n * $4::float8) * interval '1 second' AS ts
    FROM generate_series($1::bigint, $2::bigint) AS n
), said AS (
    SELECT made.*, c.id AS chat_id, c.session_id, f.id AS sender_id,
           whatsapp_gateway.message_key(i.hash_key, own, c.jid, f.jid, raw_id) AS key
    FROM made CROSS JOIN whatsapp_gateway.installation i
    JOIN whatsapp_gateway.jids c ON c.id = made.chat
    LEFT JOIN whatsapp_gateway.jids f ON NOT own AND f.id =
        CASE WHEN made.chat % 2 = 0 THEN $3::int + 1 + n / $3::int % 20 ELSE made.chat END
), keys AS (
    INSERT INTO whatsapp_gateway.message_keys (chat_id, key, rank, ts)
    SELECT chat_id, key, '00000000-0000-0000-0000-000000000000', ts FROM said
)
INSERT INTO whatsapp_gateway.message_content
    (ts, received_at, "offset", session_id, chat_id, sender_id, partition, lane, key, from_me, has_media, raw_id, type,
     body, push_name, event_id, topic)
SELECT ts, ts, n, session_id, chat_id, sender_id, 0, 0, key, own, false, raw_id, 'text', repeat('message text ', 8),
       'Ana', 'evt_' || raw_id, 'waha.message'
FROM said
"""
# Own messages: read in direct chats; in groups by six readers.
_ACKS = """
INSERT INTO whatsapp_gateway.message_acks (chat_id, key, recipient_id, level, server_at, device_at, read_at)
SELECT m.chat_id, m.key, r.id, 4, m.ts, m.ts, m.ts
FROM whatsapp_gateway.message_content m JOIN whatsapp_gateway.jids c ON c.id = m.chat_id
CROSS JOIN LATERAL (SELECT 0 AS id WHERE c.jid LIKE '%@c.us'
                    UNION ALL
                    SELECT last.id - n FROM (SELECT max(id) AS id FROM whatsapp_gateway.jids) last, generate_series(0, 5) n
                    WHERE c.jid LIKE '%@g.us') r
WHERE m.from_me
"""
_EDITS = """
INSERT INTO whatsapp_gateway.message_edits (chat_id, key, edit_key, unreadable, at, event_id, body, edit_id)
SELECT chat_id, key, md5(raw_id || 'E')::uuid, false, ts, event_id, 'a better text', raw_id || 'E'
FROM whatsapp_gateway.message_content WHERE "offset" % 20 = 0
"""
_REACTIONS = """
INSERT INTO whatsapp_gateway.reactions (chat_id, key, by_id, at, event_id, emoji)
SELECT chat_id, key, (SELECT max(id) FROM whatsapp_gateway.jids) - "offset" % 20, ts, event_id, '👍'
FROM whatsapp_gateway.message_content WHERE "offset" % 5 = 0
"""
_REVOKES = """
INSERT INTO whatsapp_gateway.message_revokes (chat_id, key, by_id, at, event_id)
SELECT chat_id, key, sender_id, ts, event_id FROM whatsapp_gateway.message_content
WHERE "offset" % 50 = 0 AND sender_id IS NOT NULL
"""
_CONTACTS = """
WITH made AS (
    INSERT INTO whatsapp_gateway.jids (session_id, jid)
    SELECT max(session_id), 551000000000 + n || '@c.us' FROM whatsapp_gateway.jids, generate_series(1, $1::int) n GROUP BY n
    RETURNING id
), seen AS (
    INSERT INTO whatsapp_gateway.contacts_seen SELECT id, false, now(), now() FROM made
)
INSERT INTO whatsapp_gateway.contact_names SELECT id, 'push', 'Name ' || id, now(), now() FROM made
"""
_LATEST = """
INSERT INTO whatsapp_gateway.chat_latest
SELECT chat_id, min(session_id), date_trunc('minute', max(ts), 'UTC') FROM whatsapp_gateway.message_content GROUP BY chat_id
"""
