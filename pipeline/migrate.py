"""Applies sql/migrations in order: once, each in its own transaction, under an advisory lock, checksummed.

Works directly and through PgBouncer in transaction mode (the lock is a transaction's), on TimescaleDB and without it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import asyncpg

from pipeline.errors import ConfigError
from pipeline.postgres import Connection, translated
from pipeline.settings import DatabaseSettings
from sql import SCHEMA, Migration, in_schema, migrations

log = logging.getLogger("wapipe.migrate")
_LOCK = 0x7761_7069_7065  # "wapipe" in ASCII: any constant number will do
_LEDGER = f"""
CREATE SCHEMA IF NOT EXISTS {SCHEMA};
CREATE TABLE IF NOT EXISTS {SCHEMA}.schema_migrations (
    number integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now());
"""


@dataclass(frozen=True, slots=True)
class Flavour:
    """Which database this is. `license` is TimescaleDB's: apache (no policies, no compression) or timescale."""

    server: str
    timescaledb: str | None
    license: str | None

    @property
    def text(self) -> str:
        """For people."""
        if self.timescaledb is None:
            return f"PostgreSQL {self.server} without TimescaleDB: message_content is an ordinary table"
        return f"PostgreSQL {self.server} with TimescaleDB {self.timescaledb} ({self.license} licence)"


@dataclass(frozen=True, slots=True)
class Report:
    """What was (or with dry_run would be) applied, and where."""

    applied: list[str]
    already: list[str]
    flavour: Flavour


async def migrate(
    database: DatabaseSettings, *, dry_run: bool = False, direct: bool = True, schema: str = SCHEMA
) -> Report:
    """Brings the schema up to date. Raises ConfigError for an edited or unknown migration, TransientError when away.

    `direct` goes past PgBouncer; without it the pooler is used (it works, tests hold that). Another `schema` gets the
    same tables as wapipe's own.
    """
    async with translated():
        connection = await asyncpg.connect(database.dsn(direct=direct), timeout=10, statement_cache_size=0)
        try:
            return await _migrate(connection, database, schema, dry_run=dry_run)
        finally:
            await connection.close()


async def _migrate(connection: Connection, database: DatabaseSettings, schema: str, *, dry_run: bool) -> Report:
    done = await _applied(connection, schema)
    wanted = migrations()
    _refuse_strangers(wanted, done)
    todo = [m for m in wanted if m.number not in done]
    already = [m.name for m in wanted if m.number in done]
    if dry_run:
        return Report([m.name for m in todo], already, await _flavour(connection))
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        await connection.execute(in_schema(_LEDGER, schema))
    await _prepare_timescaledb(connection)
    applied = [m.name for m in todo if await _apply(connection, m, database, schema)]
    flavour = await _flavour(connection)
    log.info("migrate.done", extra={"applied": applied, "database": flavour.text, "schema": schema})
    return Report(applied, already, flavour)


async def _applied(connection: Connection, schema: str) -> dict[int, tuple[str, str]]:
    """number -> (name, checksum) of what the database says was applied; empty on a new one."""
    if await connection.fetchval("SELECT to_regclass($1)", f"{schema}.schema_migrations") is None:
        return {}
    rows = await connection.fetch(f"SELECT number, name, checksum FROM {schema}.schema_migrations")  # noqa: S608
    return {r["number"]: (r["name"], r["checksum"]) for r in rows}


def _refuse_strangers(wanted: list[Migration], done: dict[int, tuple[str, str]]) -> None:
    by_number = {m.number: m for m in wanted}
    for number, (name, checksum) in sorted(done.items()):
        mine = by_number.get(number)
        if mine is None:
            raise ConfigError(f"the database has migration {name}, which this wapipe does not know: use a newer wapipe")
        if mine.checksum != checksum:
            raise ConfigError(
                f"migration {name} was changed after it was applied. Restore the file as it was and put the change "
                "into a new migration"
            )


async def _apply(connection: Connection, migration: Migration, database: DatabaseSettings, schema: str) -> bool:
    """One migration in one transaction; False when another process was faster."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        if migration.number in await _applied(connection, schema):
            return False
        await connection.execute(f"SET LOCAL search_path = {schema}, public")
        await connection.execute("SELECT set_config('wapipe.chunk_days', $1, true)", str(database.chunk_days))
        await connection.execute(in_schema(migration.text, schema))
        await connection.execute(
            f"INSERT INTO {schema}.schema_migrations (number, name, checksum) VALUES ($1, $2, $3)",  # noqa: S608
            migration.number, migration.name, migration.checksum,
        )  # fmt: skip
    log.info("migrate.applied", extra={"migration": migration.name})
    return True


async def _prepare_timescaledb(connection: Connection) -> None:
    """Creates the extension where the server has it loaded; elsewhere ordinary tables are used."""
    available = await connection.fetchval("SELECT count(*) FROM pg_available_extensions WHERE name = 'timescaledb'")
    if not available:
        return
    libraries = await connection.fetchval("SELECT setting FROM pg_settings WHERE name = 'shared_preload_libraries'")
    if libraries is not None and "timescaledb" not in libraries:  # None: this user may not see it
        raise ConfigError(
            "TimescaleDB is installed but not loaded: add timescaledb to shared_preload_libraries and restart the server"
        )
    try:
        async with connection.transaction():  # IF NOT EXISTS does not help two at once
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
            await connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb SCHEMA public")
    except asyncpg.InsufficientPrivilegeError as exc:
        raise ConfigError("a superuser must run once: CREATE EXTENSION timescaledb") from exc


async def _flavour(connection: Connection) -> Flavour:
    server = str(await connection.fetchval("SHOW server_version")).split()[0]
    version = await connection.fetchval("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'")
    license_name = await connection.fetchval("SELECT current_setting('timescaledb.license', true)") if version else None
    return Flavour(server, version, license_name)
