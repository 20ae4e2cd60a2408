"""Prometheus and promtool, for tests of the shipped alert rules: those installed here, else Debian's packages unpacked.

The packages come from the machine's own apt sources through lists of our own, so no root is needed and nothing is
installed; they are kept in the cache folder. The programs need nothing but libc.
"""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx

from pipeline.local.cache import InstallError, Say, ensure, silent
from pipeline.local.child import ChildError, run_once
from pipeline.local.service import Service

_INSTALL_S = 300


@dataclass(frozen=True, slots=True)
class Tools:
    """The two programs."""

    prometheus: Path
    promtool: Path


def unavailable() -> str | None:
    """Why Prometheus cannot be had here, in one sentence; None if it can be tried."""
    if _installed() or (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        return None
    return "prometheus and promtool are not on the PATH, and there is no apt-get to fetch Debian's"


async def find_prometheus(root: Path, environ: Mapping[str, str], say: Say = silent) -> Tools:
    """The programs on the PATH, else Debian's in the cache `root` (6 s the first time). Raises InstallError."""
    installed = _installed()
    if installed is not None:
        return installed
    release = platform.freedesktop_os_release()
    name = f"prometheus-{release['ID']}-{release.get('VERSION_CODENAME', release.get('VERSION_ID', ''))}"
    folder = await ensure(root, name, partial(_fetch, root=root, environ=environ, say=say), say)
    return Tools(folder / "usr/bin/prometheus", folder / "usr/bin/promtool")


def _installed() -> Tools | None:
    found = [shutil.which(name) for name in ("prometheus", "promtool")]
    return Tools(*(Path(path) for path in found if path)) if all(found) else None


async def _fetch(target: Path, root: Path, environ: Mapping[str, str], say: Say) -> None:
    say("fetching Prometheus from Debian (80 MB on disk, once)")
    apt = target / "apt"
    folders = [f"Dir::State::Lists={apt}/lists", f"Dir::Cache={apt}/cache"]
    for part in ("lists/partial", "cache/archives/partial"):
        await asyncio.to_thread((apt / part).mkdir, parents=True)
    options = tuple(f"-o{folder}" for folder in folders)
    log = root / "prometheus-install.log"
    step = partial(_step, cwd=apt, env=dict(environ), log=log)
    await step(("apt-get", "-q", *options, "update"))
    # Until Debian 12 promtool was a part of the first package, since 13 it is one of its own.
    for package in ("prometheus", "promtool"):
        if not await asyncio.to_thread((target / "usr/bin" / package).is_file):
            await step(("apt-get", "-q", *options, "download", package))
            [file] = await asyncio.to_thread(list, apt.glob(f"{package}_*.deb"))
            await step(("dpkg-deb", "--extract", str(file), str(target)))
    await asyncio.to_thread(shutil.rmtree, apt)


async def _step(argv: tuple[str, ...], *, cwd: Path, env: Mapping[str, str], log: Path) -> None:
    step = Service(name=argv[0], argv=argv, cwd=cwd, env=env, once=True, ready_timeout_s=_INSTALL_S)
    try:
        await run_once(step, log)
    except ChildError as exc:
        raise InstallError(str(exc)) from exc


def prometheus_service(
    program: Path, config: Path, *, data: Path, port: int, env: Mapping[str, str]
) -> Service:  # fmt: skip
    """A server with the configuration file `config`, on `port`, its samples in `data`."""

    async def ready() -> bool:
        async with httpx.AsyncClient() as client:
            try:
                return (await client.get(f"http://127.0.0.1:{port}/-/ready")).status_code == 200
            except httpx.TransportError:
                return False

    return Service(
        name="prometheus",
        argv=(
            str(program), f"--config.file={config}", f"--storage.tsdb.path={data}",
            f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn",
        ),
        cwd=config.parent,
        env={"PATH": os.defpath, **env},
        ports=(port,),
        ready=ready,
        ready_timeout_s=30,
    )  # fmt: skip
