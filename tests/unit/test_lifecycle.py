"""A process that was told to stop ends, whatever it waits for."""

from __future__ import annotations

import asyncio
import ctypes
import subprocess
import sys

import pytest

from pipeline.lifecycle import ends_within

_STUCK = """
import asyncio
from pipeline.lifecycle import ends_within
from pipeline.logs import setup_logging

async def never():
    await asyncio.Event().wait()

async def main():
    setup_logging("INFO")
    with ends_within(0.1):
        await asyncio.create_task(never(), name="the one that waits")

asyncio.run(main())
"""


def test_a_stop_that_does_not_end_ends_the_process_and_says_what_it_waits_for() -> None:
    ended = subprocess.run([sys.executable, "-c", _STUCK], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 70
    said = ended.stdout + ended.stderr
    assert "process.stuck" in said
    assert "the one that waits" in said
    assert "<string>:7" in said


async def test_one_that_ends_in_time_is_left_alone() -> None:
    loop = asyncio.get_running_loop()
    with ends_within(0.01):
        pass
    later: asyncio.Future[None] = loop.create_future()
    loop.call_later(0.05, later.set_result, None)
    await later


# Prints how many bytes of a new block, large as an answer of a broker, are not of the heap but given back with it.
_BLOCK = """
import ctypes, sys
from pipeline.lifecycle import keep_memory

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "mapped", *"abcde")]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Info
if sys.argv[1] == "kept":
    keep_memory()
before = libc.mallinfo2().mapped
block = bytes(20_000_000)
print(libc.mallinfo2().mapped - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="glibc alone can be told, and asked")
def test_memory_of_a_large_block_is_kept() -> None:
    given_back, kept = (
        int(subprocess.run([sys.executable, "-c", _BLOCK, how], capture_output=True, check=True, timeout=60).stdout)
        for how in ("given back", "kept")
    )
    assert given_back >= 20_000_000
    assert kept == 0
