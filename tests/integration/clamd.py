"""A real clamd for tests: the one installed here, else Debian's packages unpacked into the cache; with one signature, ours.

Nothing is installed and no signature is downloaded. The packages come from the machine's own apt sources, with the
libraries that are missing here.
"""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pipeline.local.cache import InstallError, ensure
from pipeline.local.child import Child, ChildError, run_once
from pipeline.local.ports import free_port
from pipeline.local.service import Service, accepts
from tests.stack import Servers

INFECTED = b"the signature of wapipe's tests"
STREAM_MAX_BYTES = 6 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Clamd:
    """Where it listens."""

    address: str
    socket: Path


@asynccontextmanager
async def clamd(servers: Servers, folder: Path) -> AsyncIterator[Clamd]:
    """A running one. Raises InstallError where none can be had."""
    program, libraries = await _find(servers.cache)
    port, socket, signatures = free_port(), folder / "clamd.sock", folder / "signatures"
    await asyncio.to_thread(_write, folder, signatures, port)
    service = Service(
        name="clamd",
        argv=(str(program), "-c", str(folder / "clamd.conf")),
        cwd=folder,
        env={"PATH": os.defpath, "LD_LIBRARY_PATH": libraries},
        ports=(port,),
        ready=partial(accepts, port),
    )
    child = Child(service, folder / "clamd.log")
    await child.start()
    try:
        await child.wait_ready()
        yield Clamd(f"127.0.0.1:{port}", socket)
    finally:
        await child.stop()


def _write(folder: Path, signatures: Path, port: int) -> None:
    signatures.mkdir()
    (signatures / "wapipe.ndb").write_text(f"Wapipe.Test:0:*:{INFECTED.hex()}\n")
    options = {
        "DatabaseDirectory": signatures, "TCPSocket": port, "TCPAddr": "127.0.0.1",
        "LocalSocket": folder / "clamd.sock", "Foreground": "yes", "StreamMaxLength": STREAM_MAX_BYTES,
    }  # fmt: skip
    if os.geteuid() == 0:
        options["User"] = "root"  # its own user need not be there
    (folder / "clamd.conf").write_text("".join(f"{name} {value}\n" for name, value in options.items()))


async def _find(cache: Path) -> tuple[Path, str]:
    """The program, and where its libraries are."""
    installed = shutil.which("clamd")
    if installed is not None:
        return Path(installed), ""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise InstallError("clamd is not on the PATH, and there is no apt-get to fetch Debian's")
    release = platform.freedesktop_os_release()
    name = f"clamd-{release['ID']}-{release.get('VERSION_CODENAME', release.get('VERSION_ID', ''))}"
    folder = await ensure(cache, name, partial(_fetch, log=cache / "clamd-install.log"))
    [library, *_] = await asyncio.to_thread(list, folder.glob("usr/lib/*/libclamav.so*"))
    return folder / "usr/sbin/clamd", str(library.parent)


async def _fetch(target: Path, *, log: Path) -> None:
    apt = target / "apt"
    for part in ("lists/partial", "cache/archives/partial"):
        await asyncio.to_thread((apt / part).mkdir, parents=True)
    options = (f"-oDir::State::Lists={apt}/lists", f"-oDir::Cache={apt}/cache", "-oDebug::NoLocking=1")
    only = ("--yes", "--download-only", "--no-install-recommends")
    try:
        await _step(("apt-get", "-q", *options, "update"), apt, log)
        await _step(("apt-get", "-q", *options, *only, "install", "clamav-daemon"), apt, log)
        for file in await asyncio.to_thread(list, apt.glob("cache/archives/*.deb")):
            await _step(("dpkg-deb", "--extract", str(file), str(target)), apt, log)
    except ChildError as exc:
        raise InstallError(str(exc)) from exc
    await asyncio.to_thread(shutil.rmtree, apt)


async def _step(argv: tuple[str, ...], cwd: Path, log: Path) -> None:
    step = Service(name=argv[0], argv=argv, cwd=cwd, env=dict(os.environ), once=True, ready_timeout_s=300)
    await run_once(step, log)
