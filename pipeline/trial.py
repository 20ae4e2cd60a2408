"""Decodes suspected records in a child process, to find those that kill it.

The child is a fork: it tries the consumer as it stands, whatever that is made of. It touches nothing but memory: files
are closed, signals reset, time and memory bounded, and it leaves without clean-up. Used by pipeline.suspects only.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import struct
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

import psutil

T = TypeVar("T")

# Beside its company a record must kill the child twice alone: whoever else may have killed it then, it was not chance.
_LONE_DEATHS = 2
_INDEX = struct.Struct("<i")
_DONE = -1


async def find_deadly(
    decode: Callable[[T], object], items: Sequence[T], *, seconds: float, memory_bytes: int
) -> list[int]:
    """Indexes of the items that kill a process that decodes them, or take longer than `seconds`, or more memory than
    this process has now and `memory_bytes`. What merely raises an Exception is no matter of this. Raises OSError when
    there can be no child."""
    limit = psutil.Process().memory_info().vms + memory_bytes

    def attempt(index: int) -> None:
        signal.setitimer(signal.ITIMER_REAL, seconds)  # SIGALRM ends the process, in C code too
        decode(items[index])

    deadly: list[int] = []
    start = 0
    while start < len(items):
        died_at = await _die_at(attempt, range(start, len(items)), limit)
        if died_at is None:
            break
        lone = [await _die_at(attempt, [died_at], limit) for _ in range(_LONE_DEATHS)]
        if None not in lone:
            deadly.append(died_at)
        start = died_at + 1
    return deadly


async def _die_at(attempt: Callable[[int], None], indexes: Sequence[int], memory_limit: int) -> int | None:
    """The index at which a child of ours died; None when it came through."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # Newer Pythons warn that another thread may hold a lock. Decoding takes none that fork leaves behind.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        _try(attempt, indexes, writing, memory_limit)
    os.close(writing)
    try:
        last = await _read_last(reading)
    finally:
        os.close(reading)
        os.kill(pid, signal.SIGKILL)  # it is dead or done, unless this task was cancelled
        os.waitpid(pid, 0)  # noqa: ASYNC222 - and so does not wait
    return None if last == _DONE else last


async def _read_last(reading: int) -> int:
    """The last index that the child announced; returns when it is gone."""
    loop, heard, gone = asyncio.get_running_loop(), bytearray(), asyncio.Event()

    def read() -> None:
        chunk = os.read(reading, 65536)
        heard.extend(chunk)
        if not chunk:
            gone.set()

    loop.add_reader(reading, read)
    try:
        await gone.wait()
    finally:
        loop.remove_reader(reading)
    if not heard:
        raise ChildProcessError("the child was gone before it tried anything")
    return int(_INDEX.unpack(heard[-_INDEX.size :])[0])


def _try(attempt: Callable[[int], None], indexes: Sequence[int], writing: int, memory_limit: int) -> NoReturn:
    """The child: announces each index, decodes its item, says when all are done. Never returns."""
    try:
        _shut_in(writing, memory_limit)
        for index in indexes:
            os.write(writing, _INDEX.pack(index))
            try:
                attempt(index)
            except MemoryError:
                os._exit(1)
            except Exception:  # noqa: BLE001, S110 - an ordinary bad record; decoding in earnest will say why
                pass
        os.write(writing, _INDEX.pack(_DONE))
    finally:
        os._exit(1)


def _shut_in(writing: int, memory_limit: int) -> None:
    signal.set_wakeup_fd(-1)  # the parent's loop listens there
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    os.closerange(3, writing)
    os.closerange(writing + 1, _most_files())
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (memory_limit, hard))


def _most_files() -> int:
    soft: Any = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 1_048_576 if soft == resource.RLIM_INFINITY else int(soft)
