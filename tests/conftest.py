"""Fixtures that give a test real servers, and the closing section that says what was not covered and why.

Everything is lazy: a run of the unit tests alone starts nothing.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator

import pytest

from pipeline.local.ports import free_port
from pipeline.local.prometheus import Tools
from tests.stack import NOT_COVERED, DatabaseServer, S3Server, Servers

FIGURES: dict[str, list[str]] = defaultdict(list)


@pytest.fixture(scope="session")
async def servers(pytestconfig: pytest.Config) -> AsyncIterator[Servers]:
    """The run's servers, none of them started yet."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")

    def say(text: str) -> None:
        if capture is None:
            print(text, flush=True)
            return
        with capture.global_and_fixture_disabled():
            print(f"\n[stack] {text}", flush=True)

    stack = Servers(say)
    try:
        yield stack
    finally:
        await stack.close()


@pytest.fixture(scope="session")
async def kafka_bootstrap(servers: Servers) -> str:
    """host:port of the broker."""
    return (await servers.kafka()).bootstrap


@pytest.fixture(scope="session")
def figures() -> dict[str, list[str]]:
    """Lines to print at the end of the run, by section."""
    return FIGURES


@pytest.fixture(scope="session")
async def database_server(servers: Servers) -> DatabaseServer:
    """TimescaleDB where it can be had, else the embedded PostgreSQL (`kind` says which)."""
    return await servers.database()


@pytest.fixture(scope="session")
async def timescaledb(database_server: DatabaseServer) -> DatabaseServer:
    """TimescaleDB, or the test is skipped."""
    if database_server.kind != "timescaledb":
        pytest.skip("TimescaleDB cannot be had here")
    return database_server


@pytest.fixture(scope="session")
async def plain_postgres(servers: Servers) -> DatabaseServer:
    """PostgreSQL without TimescaleDB."""
    return await servers.embedded()


@pytest.fixture(scope="session")
async def s3_server(servers: Servers) -> S3Server:
    """S3 with a private bucket."""
    return await servers.s3()


@pytest.fixture(scope="session")
async def pgbouncer(servers: Servers) -> int:
    """The port of PgBouncer (transaction mode) in front of `database_server`, or the test is skipped."""
    port = await servers.pgbouncer()
    if port is None:
        pytest.skip("PgBouncer is not installed here")
    return port


@pytest.fixture(scope="session")
async def prometheus(servers: Servers) -> Tools:
    """The programs prometheus and promtool, or the test is skipped."""
    tools = await servers.prometheus()
    if tools is None:
        pytest.skip("Prometheus cannot be had here")
    return tools


@pytest.fixture
async def settings_env(servers: Servers) -> dict[str, str]:
    """See make_environment."""
    return await make_environment(servers)


async def make_environment(servers: Servers) -> dict[str, str]:
    """Environment for `load_settings` or a process: a fresh database, topics of its own, real secrets."""
    kafka, database, s3 = await asyncio.gather(servers.kafka(), servers.database(), servers.s3())
    return {
        "WAPIPE_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
        "WAPIPE_TOPIC_PREFIX": f"t{secrets.token_hex(4)}.",
        "WHATSAPP_DB_HOST": database.host,
        "WHATSAPP_DB_PORT": str(database.port),
        "WHATSAPP_DB_USER": database.user,
        "WHATSAPP_DB_PASSWORD": database.password,
        "WHATSAPP_DB_NAME": await database.create_database(),
        "WHATSAPP_MINIO_HOST": "127.0.0.1",
        "WHATSAPP_MINIO_API_PORT": str(s3.port),
        "WHATSAPP_MINIO_ROOT_USER": s3.access_key,
        "WHATSAPP_MINIO_ROOT_PASSWORD": s3.secret,
        "WHATSAPP_MINIO_BUCKET": s3.bucket,
        "WHATSAPP_HOOK_HMAC_KEY": secrets.token_hex(16),
        "WHATSAPP_GATEWAY_API_TOKEN": secrets.token_hex(16),
        "WHATSAPP_GATEWAY_API_PORT": str(free_port()),
        "WAPIPE_INGRESS_PORT": str(free_port()),
        "WAPIPE_SPOOL_DIR": str(servers.root / "spool"),
    }


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    """Figures, also when all is well; and as the last lines of a run what it did not cover."""
    for section, lines in FIGURES.items():
        terminalreporter.section(section)
        for line in lines:
            terminalreporter.write_line(line)
    yield
    for line in NOT_COVERED:
        terminalreporter.write_line(f"NOT COVERED: {line}", yellow=True)
