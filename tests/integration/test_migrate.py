"""Migrations on TimescaleDB and on plain PostgreSQL, directly and through PgBouncer; topics on a real broker."""

from __future__ import annotations

import asyncio
import dataclasses

import asyncpg
import pytest

from pipeline import migrate as module
from pipeline.broker import apply_topics, require_topics, topic_states
from pipeline.errors import ConfigError, TransientError
from pipeline.local.ports import free_port
from pipeline.migrate import migrate
from pipeline.registry import consumer_names
from pipeline.settings import DatabaseSettings, Settings, load_settings
from schemas.topics import MAX_RECORD_BYTES, MESSAGE, PARKED, all_topics
from sql import migrations
from tests.stack import DatabaseServer, Servers

TABLES = {"messages", "message_content", "message_keys", "sessions", "contacts", "jids", "progress", "active_sessions"}


async def database(server: DatabaseServer, **more: object) -> DatabaseSettings:
    """Settings of a new database on `server`."""
    name = await server.create_database()
    env = {
        "WHATSAPP_DB_HOST": server.host, "WHATSAPP_DB_PORT": str(server.port), "WHATSAPP_DB_USER": server.user,
        "WHATSAPP_DB_PASSWORD": server.password, "WHATSAPP_DB_NAME": name,
    }  # fmt: skip
    return load_settings(env | {k: str(v) for k, v in more.items()}).database


async def tables(settings: DatabaseSettings) -> set[str]:
    connection = await asyncpg.connect(settings.dsn(direct=True))
    try:
        rows = await connection.fetch(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'whatsapp_gateway'"
        )
    finally:
        await connection.close()
    return {r["table_name"] for r in rows}


@pytest.mark.parametrize("kind", ["usual", "plain"])
async def test_a_new_database_is_brought_up_to_date_once(kind: str, servers: Servers) -> None:
    server = await (servers.database() if kind == "usual" else servers.embedded())
    settings = await database(server)
    planned = await migrate(settings, dry_run=True)
    assert planned.applied == [m.name for m in migrations()]
    assert await tables(settings) == set()
    first = await migrate(settings)
    assert first.applied == planned.applied
    assert await tables(settings) >= TABLES
    again = await migrate(settings)
    assert (again.applied, again.already) == ([], first.applied)
    assert (first.flavour.timescaledb is not None) == (server.kind == "timescaledb")


async def test_what_was_spread_and_is_not_fetched_waits_for_its_chats(
    database_server: DatabaseServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Migration 15: such requests had been called completed."""
    settings = await database(database_server)
    with monkeypatch.context() as before:
        before.setattr(module, "migrations", lambda: [m for m in migrations() if m.number < 15])
        await migrate(settings)
    connection = await asyncpg.connect(settings.dsn(direct=True))
    try:
        await connection.execute(
            """INSERT INTO whatsapp_gateway.sync_state
                   (request_id, session, chat, kind, reason, priority, since_s, until_s, parent_id, status)
               SELECT x.id, 's', x.chat, 'messages', 'initial', 2, 0, x.until_s, x.parent, x.status
               FROM (VALUES ('a', 'all', 1, NULL::int, 'completed'), ('a/1', '1@c.us', 1, 1, 'completed'),
                            ('b', 'all', 2, NULL, 'completed'), ('b/1', '1@c.us', 2, 3, 'waiting'),
                            ('c', 'all', 3, NULL, 'completed'), ('d', 'all', 4, NULL, 'running'))
                   AS x (id, chat, until_s, parent, status)"""
        )
        await migrate(settings)
        rows = await connection.fetch(
            "SELECT request_id, status, spread FROM whatsapp_gateway.sync_state WHERE chat = 'all' ORDER BY id"
        )
    finally:
        await connection.close()
    assert [tuple(r) for r in rows] == [
        ("a", "completed", True), ("b", "waiting", True), ("c", "completed", False), ("d", "running", False),
    ]  # fmt: skip


async def test_many_at_once_apply_each_migration_once(database_server: DatabaseServer) -> None:
    settings = await database(database_server)
    reports = await asyncio.gather(*(migrate(settings) for _ in range(5)), return_exceptions=True)
    failed = [r for r in reports if isinstance(r, BaseException)]
    assert not failed
    applied = [name for r in reports if isinstance(r, module.Report) for name in r.applied]
    assert sorted(applied) == sorted(m.name for m in migrations())


async def test_through_pgbouncer(database_server: DatabaseServer, pgbouncer: int) -> None:
    settings = await database(database_server, WHATSAPP_PGBOUNCER_PORT=pgbouncer)
    report = await migrate(settings, direct=False)
    assert report.applied
    assert await tables(settings) >= TABLES


async def test_an_edited_migration_is_refused(database_server: DatabaseServer, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = await database(database_server)
    await migrate(settings)
    edited = [dataclasses.replace(m, checksum="0" * 64) for m in migrations()]
    monkeypatch.setattr(module, "migrations", lambda: edited)
    with pytest.raises(ConfigError, match="was changed after it was applied"):
        await migrate(settings)


async def test_a_newer_database_is_refused(database_server: DatabaseServer, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = await database(database_server)
    await migrate(settings)
    monkeypatch.setattr(module, "migrations", lambda: migrations()[:-1])
    with pytest.raises(ConfigError, match="use a newer wapipe"):
        await migrate(settings)


async def test_a_database_that_is_away_is_no_configuration_error(database_server: DatabaseServer) -> None:
    settings = await database(database_server)
    away = settings.model_copy(update={"port": free_port()})
    with pytest.raises(TransientError, match="postgres"):
        await migrate(away)


async def test_chunks_have_the_length_of_the_setting(timescaledb: DatabaseServer) -> None:
    settings = await database(timescaledb, WAPIPE_CHUNK_DAYS=3)
    await migrate(settings)
    connection = await asyncpg.connect(settings.dsn())
    try:
        days = await connection.fetchval(
            "SELECT extract(day FROM time_interval)::int FROM timescaledb_information.dimensions"
        )
    finally:
        await connection.close()
    assert days == 3


async def test_counting_messages_touches_no_dictionary(database_server: DatabaseServer) -> None:
    settings = await database(database_server)
    await migrate(settings)
    connection = await asyncpg.connect(settings.dsn())
    try:
        plan = "\n".join(r[0] for r in await connection.fetch("EXPLAIN SELECT count(*) FROM whatsapp_gateway.messages"))
    finally:
        await connection.close()
    assert "jids" not in plan
    assert "sessions" not in plan


async def test_topics_are_created_and_grown_and_never_shrunk(settings_env: dict[str, str]) -> None:
    settings = load_settings(settings_env)
    wanted = all_topics(consumer_names())
    with pytest.raises(ConfigError, match="wapipe topics apply"):
        await require_topics(settings.kafka, wanted)
    created = await apply_topics(settings.kafka, wanted)
    assert len(created) == len(wanted)
    assert await apply_topics(settings.kafka, wanted) == []
    await require_topics(settings.kafka, wanted)

    grown = load_settings(settings_env | {"WAPIPE_KAFKA_PARTITIONS": "14"})
    assert any("waha.message from 12 to 14" in line for line in await apply_topics(grown.kafka, wanted))
    assert await partitions(grown, MESSAGE.name) == 14
    assert await partitions(grown, PARKED.name) == 1
    smaller = load_settings(settings_env | {"WAPIPE_KAFKA_PARTITIONS": "2"})
    assert await apply_topics(smaller.kafka, wanted) == []
    assert await partitions(smaller, MESSAGE.name) == 14


async def partitions(settings: Settings, name: str) -> int:
    states = await topic_states(settings.kafka, all_topics(consumer_names()))
    return next(s.partitions for s in states if s.topic.name == name)


def test_the_largest_body_fits_into_a_record() -> None:
    ingress = load_settings({}).ingress
    assert ingress.max_body_bytes + 64 * 1024 < MAX_RECORD_BYTES
