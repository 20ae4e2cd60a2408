"""What a service of the local stack is: a program, where it may run, when it is ready and how it is stopped.

Pure description; `child.py` runs one, `supervisor.py` runs all. kafka.py, postgres.py, timescaledb.py, s3.py
and pgbouncer.py each make one.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

Ready = Callable[[], Awaitable[bool]]
Step = Callable[[], Awaitable[None]]


async def never() -> bool:
    """The readiness of a step: it is ready by its end."""
    return False


@dataclass(frozen=True, slots=True)
class Jail:
    """As whom and in which root a program runs. The default is: as we do."""

    uid: int | None = None
    gid: int | None = None
    chroot: Path | None = None
    binds: tuple[tuple[Path, Path], ...] = ()  # (outside, target as seen from outside): mounts of its own
    read_all: bool = False  # keep the right to walk through folders closed to `uid`


@dataclass(frozen=True, slots=True)
class Service:
    """One long-running program. `env` is its whole environment."""

    name: str
    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str] = field(repr=False)  # holds secrets
    ready: Ready = never
    ports: tuple[int, ...] = ()  # the first is the one it is known by
    needs: tuple[str, ...] = ()  # services that must be ready before it starts
    once: bool = False  # a step: ends by itself, and counts as ready when its exit status is 0
    jail: Jail = Jail()
    prepare: Step | None = None  # before every start: makes data folders and configuration
    settle: Step | None = None  # after every start, once ready: makes databases and buckets
    ready_timeout_s: float = 60
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout_s: float = 20
    death_signal: signal.Signals = signal.SIGKILL  # what it gets when the supervisor is killed


async def accepts(port: int, host: str = "127.0.0.1") -> bool:
    """True if something accepts TCP connections on host:port."""
    try:
        async with asyncio.timeout(2):
            _, writer = await asyncio.open_connection(host, port)
    except OSError:  # TimeoutError is one
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True
