"""Persist: a full topic into the database by one consumer process, against what the database can take at all.

Limits of the same run, one connection, the same rows, batches of the same size: raw COPY into the hypertable; staged
COPY and the consumer's own merge into the same tables; one INSERT a row.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import asyncpg

from consumers.messages import CONTENTS, Messages
from pipeline.batch import read_headers
from pipeline.facts import FactTable, Placed, Row
from pipeline.postgres import open_pool
from pipeline.settings import Settings, load_settings
from producers.simulator import Delivery
from schemas.rows import StagedContent
from tests.bench.common import Site, Table, ack_traffic, connect, fill_topic, message_traffic, mixed_traffic, wapipe

COLUMNS = list(StagedContent._fields)
BATCH = 2000
_FILLED = 2_000_000_000  # recipient of acks that were not measured


@dataclass(slots=True)
class FakeRecord:
    """The parts of a Kafka record that decoding looks at."""

    value: bytes
    partition: int
    offset: int
    timestamp: int
    headers: list[tuple[str, bytes]]


async def run(site: Site, *, records: int, rounds: int) -> Table:
    """The consumer against the limits, all on empty databases."""
    table = Table("Persist, one process, fetch to commit", "rows/s", "staged COPY + upsert")
    prefix = f"persist{records}."
    await fill_topic(load_settings(await site.environment(prefix)), message_traffic(records))
    facts = _facts(message_traffic(records))
    found = _Run(0.0, {}, 0)
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        table.add("raw COPY, no dedupe", await _raw_copy(await _fresh(site, prefix), facts))
        table.add("staged COPY + upsert", await _staged(await _fresh(site, prefix), facts))
        found = await consume(await site.environment(prefix), records, 4800 + number)
        table.add("wapipe messages", found.rate)
        table.add("INSERT row by row", await _row_by_row(await _fresh(site, prefix), facts[:3000]))
    table.notes.append(f"wapipe against row by row: {table.ratio('wapipe messages', 'INSERT row by row'):.1f} x.")
    costs = ", ".join(f"{k} {v:.1f}" for k, v in found.stages.items())
    table.notes.append(f"Stages of the last round, µs a record (they overlap): {costs}.")
    table.notes.append(f"Peak memory of the consumer at full backlog: {found.peak_bytes / 2**20:.0f} MB.")
    return table


async def run_mixed(site: Site, *, records: int, rounds: int) -> Table:
    """Messages with their acks, edits, reactions, revokes and votes, into all tables of them."""
    table = Table("Persist of mixed traffic (1 message : 3 acks : 0.2 others)", "events/s", "staged COPY + upsert")
    prefix = f"mixed{records}."
    await fill_topic(load_settings(await site.environment(prefix)), mixed_traffic(records))
    facts = _facts(mixed_traffic(records))
    found = _Run(0.0, {}, 0)
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        table.add("staged COPY + upsert", await _staged(await _fresh(site, prefix), facts))
        found = await consume(await site.environment(prefix), records, 4860 + number)
        table.add("wapipe messages", found.rate)
    costs = ", ".join(f"{k} {v:.1f}" for k, v in found.stages.items())
    table.notes.append(f"Stages of the last round, µs an event (they overlap): {costs}.")
    return table


async def run_acks(site: Site, *, records: int, rounds: int, stored: int) -> Table:
    """Acks on a database with `stored` messages, each with an ack, against an empty one."""
    table = Table(f"Acks with {stored:,} messages and acks stored", "acks/s", "empty database")
    prefix = f"acks{records}."
    await fill_topic(load_settings(await site.environment(prefix)), ack_traffic(records))
    full = await site.environment(prefix)
    await fill_by_sql(load_settings(full), stored, with_acks=True)
    for number in range(rounds):
        table.add("empty database", (await consume(await site.environment(prefix), records, 4880 + 2 * number)).rate)
        await _forget(load_settings(full))
        table.add(f"{stored:,} stored", (await consume(full, records, 4881 + 2 * number)).rate)
    return table


async def _forget(settings: Settings) -> None:
    """The consumer begins again; what it stored goes."""
    connection = await connect(settings)
    try:
        await connection.execute("DELETE FROM whatsapp_gateway.message_acks WHERE recipient_id <> $1", _FILLED)
        await connection.execute("DELETE FROM whatsapp_gateway.progress")
        await connection.execute("VACUUM ANALYZE whatsapp_gateway.message_acks")
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()


async def run_full(site: Site, *, records: int, rounds: int, stored: int) -> Table:
    """The consumer on a database with `stored` messages against itself on an empty one."""
    table = Table(f"Persist with {stored:,} messages stored", "rows/s", "empty database")
    prefix = f"full{records}."
    await fill_topic(load_settings(await site.environment(prefix)), message_traffic(records))
    for number in range(rounds):
        environment = await site.environment(prefix)  # filled first, so that the two measurements stand side by side
        await fill_by_sql(load_settings(environment), stored)
        table.add("empty database", (await consume(await site.environment(prefix), records, 4820 + 2 * number)).rate)
        table.add(f"{stored:,} messages stored", (await consume(environment, records, 4821 + 2 * number)).rate)
    return table


@dataclass(frozen=True, slots=True)
class _Run:
    """One measured consumer: rows a second, µs a record by stage, peak resident bytes."""

    rate: float
    stages: dict[str, float]
    peak_bytes: int


def _facts(deliveries: Iterable[Delivery]) -> list[Placed]:
    decode = Messages(None).decode  # type: ignore[arg-type] # decoding needs no database
    now = time.time_ns() // 1_000_000
    rest = [("source", b"default"), ("received-at-ms", b"%d" % now)]
    return [
        decode(read_headers(FakeRecord(d.body, i % 12, i, now, [("event", d.event.encode()), *rest]), "waha.message"))
        for i, d in enumerate(deliveries)
    ]


async def _fresh(site: Site, prefix: str) -> Settings:
    return load_settings(await site.environment(prefix))


async def _staged_rows(settings: Settings, facts: list[Placed]) -> list[list[tuple[FactTable, list[Row]]]]:
    """Rows by table, in batches, made outside the measured time."""
    pool = await open_pool(settings.database, name="bench", max_size=1)
    consumer = Messages(pool)
    batches = [facts[i : i + BATCH] for i in range(0, len(facts), BATCH)]
    rows = [list((await consumer.prepare(batch)).tables()) for batch in batches]
    await pool.close()
    return rows


async def _contents(settings: Settings, facts: list[Placed]) -> list[list[Row]]:
    return [rows for tables in await _staged_rows(settings, facts) for table, rows in tables if table is CONTENTS]


async def _timed(settings: Settings, facts: list[Placed], batches: list[Any], store: Any) -> float:
    connection = await connect(settings)
    try:
        started = time.perf_counter()
        for rows in batches:
            async with connection.transaction():
                await store(connection, rows)
        return len(facts) / (time.perf_counter() - started)
    finally:
        await connection.close()


async def _raw_copy(settings: Settings, facts: list[Placed]) -> float:
    async def store(connection: asyncpg.Connection[asyncpg.Record], rows: list[Any]) -> None:
        await connection.copy_records_to_table(
            "message_content",
            schema_name="whatsapp_gateway",
            columns=["ts", "received_at", *COLUMNS[2:-1]],
            records=rows,
        )

    def with_times(row: Row) -> tuple[object, ...]:
        times = (datetime.fromtimestamp(ms / 1000, UTC) for ms in row[:2])
        return (*times, *row[2:-3])

    batches = [[with_times(row) for row in rows] for rows in await _contents(settings, facts)]
    return await _timed(settings, facts, batches, store)


async def _staged(settings: Settings, facts: list[Placed]) -> float:
    async def store(connection: asyncpg.Connection[asyncpg.Record], tables: list[tuple[FactTable, list[Row]]]) -> None:
        for table, rows in tables:
            await table.copy(connection, rows)
            await table.merge_stage(connection, len(rows))

    return await _timed(settings, facts, await _staged_rows(settings, facts), store)


async def _row_by_row(settings: Settings, facts: list[Placed]) -> float:
    names = ", ".join(f'"{c}"' for c in ("ts", "received_at", *COLUMNS[2:-1]))
    times = "to_timestamp($1::bigint / 1000.0), to_timestamp($2::bigint / 1000.0), "
    marks = times + ", ".join(f"${i + 3}" for i in range(len(COLUMNS) - 3))
    insert = f"""WITH k AS (INSERT INTO whatsapp_gateway.message_keys (chat_id, key, rank, ts)
        VALUES ($5, $10, ${len(COLUMNS)}, to_timestamp($1::bigint / 1000.0)) ON CONFLICT DO NOTHING RETURNING 1)
        INSERT INTO whatsapp_gateway.message_content ({names}) SELECT {marks} FROM k"""

    batches = await _contents(settings, facts)
    connection = await connect(settings)
    try:
        statement = await connection.prepare(insert)
        started = time.perf_counter()
        for row in (r for rows in batches for r in rows):
            await statement.fetch(*row[:-2])
        return len(facts) / (time.perf_counter() - started)
    finally:
        await connection.close()


async def consume(environment: dict[str, str], records: int, port: int) -> _Run:
    """Starts the consumer on a full topic. The progress rows are in a new database, so everything is read again."""
    async with wapipe(environment | {"WAPIPE_METRICS_PORT": str(port)}, "run", "messages") as process:
        connection = await connect(load_settings(environment))
        try:
            first = await _reached(connection, 1, process)
            started, before = time.perf_counter(), process.cpu_times()
            done = await _reached(connection, records, process)
            rate = (done - first) / (time.perf_counter() - started)
            after = process.cpu_times()
            stages = await _stage_costs(port, records)
            used = after.user + after.system - before.user - before.system
            stages["CPU of the process"] = used / (done - first) * 1e6
            return _Run(rate, stages, _peak(process))
        finally:
            await connection.close()


async def _reached(connection: asyncpg.Connection[asyncpg.Record], count: int, process: Any) -> int:
    """Waits (two minutes at most) until `count` records are stored; answers how many are."""
    end = time.monotonic() + 120
    while time.monotonic() < end and process.is_running():
        stored = await connection.fetchval("SELECT coalesce(sum(records), 0)::int FROM whatsapp_gateway.progress")
        if stored >= count:
            return int(stored)
        await asyncio.sleep(0.02)
    raise RuntimeError(f"the consumer did not store {count} records")


async def _stage_costs(port: int, records: int) -> dict[str, float]:
    """µs a record of each stage, from the process' own metrics."""
    import httpx

    async with httpx.AsyncClient() as client:
        text = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
    found: dict[str, float] = {}
    for line in text.splitlines():
        if line.startswith("wapipe_stage_seconds_sum"):
            stage = line.split('stage="')[1].split('"')[0]
            found[stage] = float(line.rsplit(" ", 1)[1]) / records * 1e6
    return found


def _peak(process: Any) -> int:
    try:
        with open(f"/proc/{process.pid}/status") as file:
            line = next(text for text in file if text.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration):
        return 0


async def fill_by_sql(settings: Settings, count: int, *, with_acks: bool = False) -> None:
    """Puts `count` messages of 50,000 chats into the tables, in 500,000s, 60 days deep; an ack of each, if wanted.

    The measured run's chats get the first of these ids, so their keys go between the stored ones.
    """
    connection = await connect(settings)
    try:
        await connection.execute(
            "INSERT INTO whatsapp_gateway.sessions (name) VALUES ('filled') ON CONFLICT DO NOTHING"
        )
        for start in range(0, count, 500_000):
            await connection.execute(FILL, start, min(count, start + 500_000) - 1, count)
            if with_acks:
                await connection.execute(FILL_ACKS, start, min(count, start + 500_000) - 1, _FILLED)
            print(f"  {min(count, start + 500_000):,} filled", file=sys.stderr, flush=True)
        await connection.execute("VACUUM ANALYZE whatsapp_gateway.message_keys")
        await connection.execute("ANALYZE whatsapp_gateway.message_content")
        await connection.execute("CHECKPOINT")
        print("  ready", file=sys.stderr, flush=True)
    finally:
        await connection.close()


FILL = """
WITH made AS (
    SELECT 1 + n % 50000 AS chat_id, md5(n::text)::uuid AS key,
           timestamptz '2026-05-20' + interval '60 days' * (n::float8 / $3::float8) AS ts, n
    FROM generate_series($1::bigint, $2::bigint) AS n
), keys AS (
    INSERT INTO whatsapp_gateway.message_keys (chat_id, key, rank, ts)
    SELECT chat_id, key, '00000000-0000-0000-0000-000000000000', ts FROM made
)
INSERT INTO whatsapp_gateway.message_content
    (ts, received_at, "offset", session_id, chat_id, sender_id, partition, lane, key, from_me, has_media, raw_id, type,
     body, push_name, event_id, topic)
SELECT ts, ts, n, 1, chat_id, chat_id, 0, 0, key, false, false, md5(n::text), 'text', repeat('message text ', 8), 'Ana',
       'evt_' || md5(n::text), 'waha.message'
FROM made
"""
FILL_ACKS = """
INSERT INTO whatsapp_gateway.message_acks (chat_id, key, recipient_id, level, server_at, device_at)
SELECT 1 + n % 50000, md5(n::text)::uuid, $3, 2, now(), now() FROM generate_series($1::bigint, $2::bigint) AS n
"""
