"""TimescaleDB 2 on PostgreSQL 17 from Debian's own packages, in a chroot that is kept in the cache folder.

Needs root on a Debian-like Linux with debootstrap and mounts allowed; `unavailable` says what is missing.
Mounts are made in a namespace of each server's process: none is left behind, and servers share one chroot.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from pipeline.local.cache import InstallError, Say, ensure, silent
from pipeline.local.child import ChildError, run_once
from pipeline.local.postgres import Login, Programs, postgres_service, unprivileged
from pipeline.local.service import Service

SUITE = "trixie"  # Debian 13: PostgreSQL 17, TimescaleDB 2.19 (Apache build)
_PACKAGES = "postgresql-17,postgresql-17-timescaledb,pgbouncer"
_BIN = Path("/usr/lib/postgresql/17/bin")
_HOME_INSIDE = Path("/srv")  # empty in every Debian
_INSTALL_S = 900


def unavailable() -> str | None:
    """Why TimescaleDB cannot be had here, in one sentence; None if it can be tried."""
    if not sys.platform.startswith("linux"):
        return "TimescaleDB comes from Debian's packages, and this is not Linux"
    if os.geteuid() != 0:
        return "TimescaleDB needs root (debootstrap and chroot)"
    if not Path("/etc/debian_version").is_file():
        return "TimescaleDB comes from Debian's packages, and this is not Debian"
    if not _permitted(_CAP_SYS_ADMIN) or not _permitted(_CAP_SYS_CHROOT):
        return "TimescaleDB needs a root that may chroot and mount; this container's may not"
    if not (shutil.which("debootstrap") or shutil.which("apt-get")):
        return "TimescaleDB needs debootstrap, and there is no apt-get to install it"
    return None


_CAP_SYS_CHROOT, _CAP_SYS_ADMIN = 18, 21


def _permitted(capability: int) -> bool:
    status = Path("/proc/self/status").read_text("ascii")
    held = next((int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:")), 0)
    return bool(held & 1 << capability)


async def install_timescaledb(root: Path, environ: Mapping[str, str], say: Say = silent) -> Path:
    """The chroot in the cache `root`; 40 s and 700 MB the first time. Raises InstallError."""
    return await ensure(
        root, f"debian-{SUITE}-postgresql-17", partial(_bootstrap, root=root, environ=environ, say=say), say
    )


async def _bootstrap(target: Path, root: Path, environ: Mapping[str, str], say: Say) -> None:
    log = root / "timescaledb-install.log"
    env = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "DEBIAN_FRONTEND": "noninteractive",
        "HOME": "/root",
        "LC_ALL": "C",
    }
    env |= {k: v for k, v in environ.items() if k.lower().endswith("_proxy")}
    if shutil.which("debootstrap", path=env["PATH"]) is None:
        say("installing debootstrap")
        await _step(("apt-get", "update", "-q"), env, log)
        await _step(("apt-get", "install", "-y", "-q", "--no-install-recommends", "debootstrap"), env, log)
    say("installing TimescaleDB from Debian (700 MB on disk, about 40 s, once)")
    await asyncio.to_thread(target.chmod, 0o755)
    # Namespaces of its own: its mounts are seen by nobody, and whatever it started ends with it.
    alone = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
    await _step((*alone, "debootstrap", "--variant=minbase", f"--include={_PACKAGES}", SUITE, str(target)), env, log)
    await asyncio.to_thread(shutil.rmtree, target / "var" / "cache" / "apt", ignore_errors=True)


async def _step(argv: tuple[str, ...], env: Mapping[str, str], log: Path) -> None:
    step = Service(name=argv[0], argv=argv, cwd=Path("/"), env=env, once=True, ready_timeout_s=_INSTALL_S)
    try:
        await run_once(step, log)
    except ChildError as exc:
        raise InstallError(str(exc)) from exc


def timescaledb_service(
    chroot: Path, *, home: Path, logs: Path, port: int, login: Login, env: Mapping[str, str],
    options: tuple[str, ...] = (),
) -> Service:  # fmt: skip
    """A server with the extension preloaded, on `port`, its cluster in `home`; made at its first start."""
    binds = tuple((Path(p), chroot / p.lstrip("/")) for p in ("/proc", "/dev"))
    jail = replace(unprivileged(), read_all=False, chroot=chroot, binds=(*binds, (home, chroot / "srv")))
    programs = Programs(
        "timescaledb", _BIN, jail, home_inside=_HOME_INSIDE,
        options=(
            "shared_preload_libraries=timescaledb", "timescaledb.telemetry_level=off",
            "max_worker_processes=32",
            *options,
        ),
    )  # fmt: skip
    return postgres_service(programs, home=home, logs=logs, port=port, login=login, env=env)
