"""Connections that do not answer: none is handed on in the middle of a statement, and the end waits for none."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from pipeline.errors import TransientError
from pipeline.postgres import Pool, close_pool, open_pool, transaction, translated
from pipeline.settings import DatabaseSettings, load_settings
from tests.faults.proxy import Proxy
from tests.site import until
from tests.stack import DatabaseServer


@pytest.fixture
async def database(settings_env: dict[str, str]) -> DatabaseSettings:
    return load_settings(settings_env | {"WAPIPE_DB_COMMAND_TIMEOUT_S": "0.5"}).database


async def test_a_statement_that_timed_out_takes_its_connection_along(
    database: DatabaseSettings, database_server: DatabaseServer
) -> None:
    pool = await open_pool(database, name="late", max_size=1)
    try:
        before = await pool.fetchval("SELECT pg_backend_pid()")
        with pytest.raises(TransientError, match="TimeoutError"):
            async with translated():
                await pool.execute("SELECT pg_sleep(60)")
        assert await pool.fetchval("SELECT pg_backend_pid()") != before
        await until(lambda: _gone(database_server, before), "the server to give the statement up")
    finally:
        await close_pool(pool)


async def test_a_transaction_whose_statement_timed_out_is_an_outage_and_is_over(database: DatabaseSettings) -> None:
    pool = await open_pool(database, name="late", max_size=1)
    try:
        with pytest.raises(TransientError):
            await _sleep_in_a_transaction(pool)
        async with transaction(pool) as connection:
            assert await connection.fetchval("SELECT to_regclass('unfinished')") is None
    finally:
        await close_pool(pool)


async def test_a_client_that_vanishes_before_its_arguments_keeps_no_locks(
    database: DatabaseSettings, database_server: DatabaseServer
) -> None:
    """The server has the statement, waits for what belongs into it, and does not call that idle."""
    pool = await open_pool(database, name="vanished", max_size=1, short_transactions=True)
    try:
        async with pool.acquire() as connection:
            assert connection.get_server_version().major >= 17
            pid = connection.get_server_pid()
            await connection.execute("BEGIN")
            await connection.prepare("SELECT 1 + $1::int")
            await until(lambda: _gone(database_server, pid), "the server to end it", 30)
    finally:
        pool.terminate()


async def test_an_answer_that_stops_half_way_breaks_no_later_statement(database: DatabaseSettings) -> None:
    """The link stands still and goes on again and again, while statements time out at it."""
    proxy = Proxy(database.port)
    await proxy.start()
    pool = await open_pool(database.model_copy(update={"port": proxy.port}), name="stalled", max_size=2)
    try:
        for pause_s in (0.4, 0.5, 0.6, 0.8):
            statements = [asyncio.create_task(_answers(pool, n)) for n in range(20)]
            await proxy.set("stall")
            await asyncio.sleep(pause_s)  # about the time after which a statement is given up
            await proxy.set("pass")
            await asyncio.gather(*statements)
    finally:
        await close_pool(pool)
        await proxy.stop()


async def test_an_error_inside_the_driver_is_an_outage() -> None:
    with pytest.raises(TransientError, match="another operation is in progress"):
        async with translated():
            raise asyncpg.InternalClientError("another operation is in progress")


async def test_closing_does_not_wait_for_a_server_that_is_silent(database: DatabaseSettings) -> None:
    proxy = Proxy(database.port)
    await proxy.start()
    settings = database.model_copy(update={"port": proxy.port, "command_timeout_s": 3600})
    pool = await open_pool(settings, name="silent", max_size=1)
    try:
        assert await pool.fetchval("SELECT 1") == 1
        busy = asyncio.create_task(pool.execute("SELECT pg_sleep(3600)"))
        await proxy.set("half-open")
        await close_pool(pool)
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
            await busy
    finally:
        await proxy.stop()


async def _sleep_in_a_transaction(pool: Pool) -> None:
    async with transaction(pool) as connection:
        await connection.execute("CREATE TEMPORARY TABLE unfinished ()")
        await connection.execute("SELECT pg_sleep(60)")


async def _answers(pool: Pool, number: int) -> None:
    """Asks until it is answered; nothing but an outage may come in between, and no other statement's answer."""

    async def ask() -> bool | None:
        try:
            async with transaction(pool) as connection:
                answer = await connection.fetchval("SELECT $1::int", number)
        except TransientError:
            return None
        assert answer == number
        return True

    await until(ask, "an answer")


async def _gone(server: DatabaseServer, pid: int) -> bool | None:
    connection = await server.connect()
    try:
        return None if await connection.fetchval("SELECT count(*) FROM pg_stat_activity WHERE pid = $1", pid) else True
    finally:
        await connection.close()
