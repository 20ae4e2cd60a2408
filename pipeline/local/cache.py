"""The folder where downloaded servers are kept, and how one gets there: once, whole, by one run at a time.

An entry is made in a staging folder and renamed when it is complete, so that a killed download leaves nothing
that looks installed. Two runs that want the same entry wait for each other by a lock file.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import platformdirs

from pipeline.errors import WapipeError
from pipeline.settings import LocalSettings

Say = Callable[[str], None]
Install = Callable[[Path], Awaitable[None]]

_ATTEMPTS = 3
_LOCK_POLL_S = 0.2


class InstallError(WapipeError):
    """A server could not be downloaded or unpacked."""


def silent(_: str) -> None:
    """A `say` that tells nobody."""


def cache_root(local: LocalSettings) -> Path:
    """WAPIPE_CACHE_DIR, or `wapipe` in the user's cache folder (~/.cache on Linux)."""
    return (local.cache_dir or platformdirs.user_cache_path("wapipe")).expanduser().resolve()


async def ensure(root: Path, name: str, install: Install, say: Say = silent) -> Path:
    """The folder root/name; `install(staging)` makes it once. Raises InstallError after 3 attempts."""
    target = root / name
    if await asyncio.to_thread(target.is_dir):
        return target
    await asyncio.to_thread(root.mkdir, parents=True, exist_ok=True)
    async with locked(root / f"{name}.lock", say):
        if not await asyncio.to_thread(target.is_dir):
            await _install(root, target, install, say)
    return target


async def _install(root: Path, target: Path, install: Install, say: Say) -> None:
    for attempt in range(1, _ATTEMPTS + 1):
        staging = await asyncio.to_thread(_empty_staging, target)
        try:
            await install(staging)
        except (InstallError, OSError) as exc:
            if attempt == _ATTEMPTS:
                raise InstallError(f"{target.name} could not be installed: {exc}") from exc
            say(f"{target.name}: {exc}; trying again ({attempt + 1} of {_ATTEMPTS})")
            await asyncio.sleep(2**attempt)
        else:
            await asyncio.to_thread(staging.rename, target)
            return


def _empty_staging(target: Path) -> Path:
    for old in target.parent.glob(f"{target.name}.staging-*"):  # of a run that was killed: we hold the lock
        shutil.rmtree(old, ignore_errors=True)
    staging = target.with_name(f"{target.name}.staging-{os.getpid()}")
    staging.mkdir()
    return staging


@asynccontextmanager
async def locked(path: Path, say: Say = silent) -> AsyncIterator[None]:
    """Holds an exclusive lock on the file `path`; the kernel releases it if we die."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        told = False
        while not try_lock(fd):
            if not told:
                say(f"waiting for another run that holds {path}")
                told = True
            await asyncio.sleep(_LOCK_POLL_S)
        yield
    finally:
        os.close(fd)


def try_lock(fd: int) -> bool:
    """True if the exclusive lock on the open file was got at once."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
