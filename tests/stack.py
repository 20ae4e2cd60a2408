"""The real servers behind the tests: each starts at its first use, once a run, on free ports.

conftest.py makes fixtures of it. Tests that break a server start one of their own with `Servers`, so that
nobody else's breaks. What could not be had is remembered in `NOT_COVERED` and printed at the end of the run.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar, cast

import asyncpg
import psutil

from pipeline.local import pgbouncer, timescaledb
from pipeline.local import prometheus as packaged
from pipeline.local.cache import InstallError, cache_root
from pipeline.local.child import Child
from pipeline.local.kafka import install_kafka, kafka_service
from pipeline.local.ports import free_port
from pipeline.local.postgres import Login, connect, embedded, postgres_service, quote_name
from pipeline.local.s3 import Bucket, find_weed, s3_service
from pipeline.local.service import Service
from pipeline.settings import load_settings

T = TypeVar("T")
Kind = Literal["timescaledb", "embedded"]

# What CI must have ("timescaledb", "prometheus"). Taken out of the environment: it is no setting of wapipe's processes.
REQUIRE = set(filter(None, os.environ.pop("WAPIPE_TEST_REQUIRE", "").split(",")))
NOT_COVERED: list[str] = []


@dataclass(frozen=True, slots=True)
class KafkaServer:
    """A broker. `child` may be killed and started again by tests that own it."""

    port: int
    child: Child

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"


@dataclass(frozen=True, slots=True)
class DatabaseServer:
    """A PostgreSQL server, with TimescaleDB or without."""

    port: int
    user: str
    password: str = field(repr=False)
    kind: Kind
    child: Child
    host: str = "127.0.0.1"

    @property
    def login(self) -> Login:
        return Login(self.user, self.password, "postgres")

    async def create_database(self, template: str = "template0") -> str:
        """The name of a new database; a copy of `template`, to which nobody may be connected."""
        name = f"t_{secrets.token_hex(6)}"
        connection = await connect(self.port, self.login)
        try:
            await connection.execute(f"CREATE DATABASE {quote_name(name)} TEMPLATE {quote_name(template)}")
        finally:
            await connection.close()
        return name

    async def connect(self, database: str = "postgres") -> asyncpg.Connection[asyncpg.Record]:
        return await connect(self.port, self.login, database)


@dataclass(frozen=True, slots=True)
class S3Server:
    """An S3 server with one private bucket."""

    port: int
    access_key: str
    secret: str = field(repr=False)
    bucket: str
    child: Child

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class Servers:
    """Servers that start when they are asked for. `close` stops them all and removes their folder.

    Of a broker that lives for minutes the Java machine's second compiler takes more processor time than it saves: `lasting`
    ones have it.
    """

    def __init__(self, say: Callable[[str], None] = print, *, lasting: bool = False) -> None:
        _remove_leftovers()
        self.root = Path(tempfile.mkdtemp(prefix=f"wapipe-stack-{os.getpid()}-"))
        self.cache = cache_root(load_settings({k: v for k, v in os.environ.items() if k == "WAPIPE_CACHE_DIR"}).local)
        self._say = say
        self._env = {k: v for k, v in os.environ.items() if not k.startswith(("WAPIPE_", "WHATSAPP_", "PG"))}
        if not lasting:
            self._env["JDK_JAVA_OPTIONS"] = "-XX:TieredStopAtLevel=1"
        self._children: list[Child] = []
        self._tasks: dict[str, asyncio.Task[object]] = {}

    async def kafka(self) -> KafkaServer:
        return await self._once("kafka", self._kafka)

    async def database(self) -> DatabaseServer:
        """TimescaleDB; the embedded server where that cannot be had, unless it is required."""
        return await self._once("database", self._database)

    async def embedded(self) -> DatabaseServer:
        return await self._once("embedded", self._embedded)

    async def s3(self) -> S3Server:
        return await self._once("s3", self._s3)

    async def pgbouncer(self) -> int | None:
        """The port of a pooler in front of `database`; None (and remembered) where there is no PgBouncer."""
        return await self._once("pgbouncer", self._pgbouncer)

    async def prometheus(self) -> packaged.Tools | None:
        """Prometheus and promtool; None (and remembered) where they cannot be had, unless they are required."""
        return await self._once("prometheus", self._prometheus)

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await asyncio.gather(*(child.stop() for child in self._children))
        await asyncio.to_thread(shutil.rmtree, self.root, ignore_errors=True)

    async def _once(self, name: str, start: Callable[[], Awaitable[T]]) -> T:
        if name not in self._tasks:
            self._tasks[name] = asyncio.ensure_future(start())
        return cast(T, await asyncio.shield(self._tasks[name]))  # one name has one type

    async def _run(self, service: Service) -> Child:
        child = Child(service, self.root / "logs" / f"{service.name}.log")
        self._children.append(child)
        await child.start()
        await child.wait_ready()
        return child

    async def _kafka(self) -> KafkaServer:
        broker = await install_kafka(self.cache, self._env, self._say)
        port, logs = free_port(), self.root / "logs"
        service = kafka_service(
            broker, data=self.root / "kafka", logs=logs, port=port, controller_port=free_port(),
            env=self._env,
        )  # fmt: skip
        return KafkaServer(port, await self._run(service))

    async def _database(self) -> DatabaseServer:
        try:
            reason = timescaledb.unavailable()
            if reason is None:
                return await self._timescaledb()
        except InstallError as exc:
            reason = str(exc)
        if "timescaledb" in REQUIRE:
            raise AssertionError(f"WAPIPE_TEST_REQUIRE asks for TimescaleDB: {reason}")
        NOT_COVERED.append(f"TimescaleDB (hypertables, chunks): ran on embedded PostgreSQL instead, because {reason}")
        return await self.embedded()

    async def _timescaledb(self) -> DatabaseServer:
        chroot = await timescaledb.install_timescaledb(self.cache, self._env, self._say)
        port, login = free_port(), _login()
        service = timescaledb.timescaledb_service(
            chroot,
            home=self.root / "timescaledb",
            logs=self.root / "logs",
            port=port,
            login=login,
            env=self._env,
        )
        return DatabaseServer(port, login.user, login.password, "timescaledb", await self._run(service))

    async def _embedded(self) -> DatabaseServer:
        port, login = free_port(), _login()
        service = postgres_service(
            embedded(),
            home=self.root / "postgres",
            logs=self.root / "logs",
            port=port,
            login=login,
            env=self._env,
        )
        return DatabaseServer(port, login.user, login.password, "embedded", await self._run(service))

    async def _s3(self) -> S3Server:
        bucket = Bucket("whatsapp-media", f"key{secrets.token_hex(4)}", secrets.token_hex(16))
        port = free_port()
        service = s3_service(weed=find_weed(), data=self.root / "s3", port=port, bucket=bucket, env=self._env)
        child = await self._run(service)
        return S3Server(port, bucket.access_key, bucket.secret_key, bucket.name, child)

    async def _pgbouncer(self) -> int | None:
        server = await self.database()
        chroot = await timescaledb.install_timescaledb(self.cache, self._env) if server.kind == "timescaledb" else None
        found = pgbouncer.find_pgbouncer(chroot)
        if found is None:
            NOT_COVERED.append("PgBouncer: it is not installed here")
            return None
        port = free_port()
        service = pgbouncer.pgbouncer_service(
            *found,
            home=self.root / "pgbouncer",
            port=port,
            server_port=server.port,
            login=server.login,
            env=self._env,
        )
        await self._run(service)
        return port

    async def _prometheus(self) -> packaged.Tools | None:
        reason = packaged.unavailable()
        if reason is None:
            try:
                return await packaged.find_prometheus(self.cache, self._env, self._say)
            except InstallError as exc:
                reason = str(exc)
        if "prometheus" in REQUIRE:
            raise AssertionError(f"WAPIPE_TEST_REQUIRE asks for Prometheus: {reason}")
        NOT_COVERED.append(f"Prometheus (alert rules by promtool, a real scrape): {reason}")
        return None


def _login() -> Login:
    return Login("whatsapp", secrets.token_urlsafe(18), "whatsapp_gateway")


def _remove_leftovers() -> None:
    """Folders of runs that were killed; their servers ended with them."""
    for folder in Path(tempfile.gettempdir()).glob("wapipe-stack-*"):
        pid = folder.name.split("-")[2]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)
