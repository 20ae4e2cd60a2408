"""Fixtures that give a test real servers, and the closing section that says what was not covered and why.

Everything is lazy: a run of the unit tests alone starts nothing. With several workers (`-n 3`) each has servers of its own,
and what they have to say at the end is said once, by the process that started them.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from pipeline.local import ports
from pipeline.local.ports import free_port
from pipeline.local.prometheus import Tools
from tests.stack import NOT_COVERED, REQUIRE, DatabaseServer, S3Server, Servers
from tests.warm import stop_shared

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
            print(f"\n[stack] {text}", file=sys.stderr, flush=True)  # a worker's stdout goes nowhere

    stack = Servers(say)
    try:
        yield stack
    finally:
        try:
            await stop_shared()
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


# ---------------------------------------------------------------- several workers
def pytest_configure(config: pytest.Config) -> None:
    """A worker learns what is required, which the environment tells only the process that starts the workers, and gets ports
    of its own: two that choose a free one at the same moment would choose the same now and then."""
    given: dict[str, Any] | None = getattr(config, "workerinput", None)
    if given is None:
        return
    REQUIRE.update(given["require"])
    number, share = int(given["workerid"].removeprefix("gw")), (ports._HIGH - ports._LOW) // given["workercount"]
    ports._LOW += number * share
    ports._HIGH = ports._LOW + share


# Directories whose files take long, longest first: dealt out last, they would leave other workers idle.
_LONG = ("e2e", "integration", "properties")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Long ones first where workers share them; by themselves tests run from the quickest on."""
    if getattr(config, "workerinput", None) is not None:
        items.sort(key=lambda item: next((n for n, d in enumerate(_LONG) if d in item.path.parts), len(_LONG)))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """A worker is about to be started."""
    node.workerinput["require"] = sorted(REQUIRE)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker hands over what it has to say."""
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["figures"], output["not_covered"] = dict(FIGURES), NOT_COVERED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """A worker has ended; one that died says nothing, and its test has failed."""
    output: dict[str, Any] = getattr(node, "workeroutput", {})
    for section, lines in output.get("figures", {}).items():
        FIGURES[section] += lines
    NOT_COVERED.extend(output.get("not_covered", ()))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    """Figures, also when all is well; and as the last lines of a run what it did not cover."""
    for section, lines in FIGURES.items():
        terminalreporter.section(section)
        for line in lines:
            terminalreporter.write_line(line)
    yield
    for line in dict.fromkeys(NOT_COVERED):  # each worker may say the same
        terminalreporter.write_line(f"NOT COVERED: {line}", yellow=True)
