"""PgBouncer in transaction mode in front of a database server. Only tests of the pooled path start it.

The program is Debian's: the one in TimescaleDB's chroot, or one that is installed here. It refuses root, so
it runs as `nobody` then.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from pipeline.local.postgres import Login, unprivileged
from pipeline.local.service import Jail, Service, accepts

_CONFIG = """\
[databases]
* = host=127.0.0.1 port={server_port}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {folder}/users.txt
pool_mode = transaction
max_client_conn = 500
default_pool_size = 20
idle_transaction_timeout = 15
ignore_startup_parameters = extra_float_digits
admin_users = {user}
"""


def find_pgbouncer(chroot: Path | None) -> tuple[Path, Jail] | None:
    """The program and how to run it; None if there is none. `chroot` is TimescaleDB's, where there is one."""
    if chroot is not None and (chroot / "usr/sbin/pgbouncer").is_file():
        return Path("/usr/sbin/pgbouncer"), Jail(chroot=chroot)
    found = shutil.which("pgbouncer", path=f"{os.defpath}:/usr/sbin:/usr/local/sbin")
    return (Path(found), Jail()) if found else None


def pgbouncer_service(
    program: Path,
    jail: Jail,
    *,
    home: Path,
    port: int,
    server_port: int,
    login: Login,
    env: Mapping[str, str],
) -> Service:
    """A pooler on `port` for all databases of the server on `server_port`, with one user."""
    user = unprivileged()
    inside = Path("/srv") if jail.chroot else home
    binds = ((home, jail.chroot / "srv"),) if jail.chroot else ()
    outer = Jail(user.uid, user.gid, jail.chroot, binds, read_all=user.read_all and jail.chroot is None)

    config = _CONFIG.format(server_port=server_port, port=port, folder=inside, user=login.user)

    async def prepare() -> None:
        await asyncio.to_thread(_write, home, outer, config, _users(login))

    return Service(
        name="pgbouncer",
        argv=(str(program), str(inside / "pgbouncer.ini")),
        cwd=inside,
        env=env,
        jail=outer,
        ports=(port,),
        ready=partial(accepts, port),
        prepare=prepare,
        ready_timeout_s=20,
        stop_timeout_s=5,
    )


def _write(home: Path, jail: Jail, config: str, users: str) -> None:
    home.mkdir(parents=True, exist_ok=True)
    for name, text in {"pgbouncer.ini": config, "users.txt": users}.items():
        path = home / name
        path.write_text(text)
        path.chmod(0o600)
    if jail.uid is not None and jail.gid is not None:
        for path in (home, *home.iterdir()):
            os.chown(path, jail.uid, jail.gid)


def _users(login: Login) -> str:
    user, password = (text.replace('"', '""') for text in (login.user, login.password))
    return f'"{user}" "{password}"\n'
