"""Records that kill a process are found by a child that dies of them; nobody else is blamed."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
from pathlib import Path

import psutil

from pipeline.trial import find_deadly

MIB = 2**20


def decode(word: str) -> str:
    """Does what the word says."""
    if word == "segfault":
        ctypes.string_at(0)
    if word == "exit":
        os._exit(0)
    if word == "sys.exit":
        sys.exit(0)
    if word == "abort":
        os.abort()
    if word == "much memory":
        return str(len([bytearray(MIB) for _ in range(4096)]))
    if word == "no end":
        while True:
            pass
    if word == "merely bad":
        raise ValueError(word)
    return word


async def deadly(words: list[str], seconds: float = 5) -> list[str]:
    found = await find_deadly(decode, words, seconds=seconds, memory_bytes=256 * MIB)
    return [words[i] for i in found]


async def test_whatever_kills_is_found_and_nothing_else() -> None:
    killers = ["segfault", "exit", "sys.exit", "abort", "much memory"]
    words = ["good"] * 500
    for n, killer in enumerate(killers):
        words.insert(100 * n + 7, killer)
    assert await deadly(["merely bad", *words, "good"]) == killers


async def test_the_first_and_the_last_and_nothing_but_killers() -> None:
    assert await deadly(["exit", "good", "exit"]) == ["exit", "exit"]
    assert await deadly(["exit"] * 3) == ["exit"] * 3
    assert await deadly(["good", "merely bad"]) == []
    assert await deadly([]) == []


async def test_what_never_ends_is_deadly() -> None:
    assert await deadly(["good", "no end", "good"], seconds=0.2) == ["no end"]


async def test_a_child_that_somebody_else_kills_blames_nobody(tmp_path: Path) -> None:
    marker, others = tmp_path / "tried", set(psutil.Process().children())  # servers of other tests

    def waits_once(word: str) -> None:
        if word == "waits" and not marker.exists():
            marker.touch()
            signal.pause()

    async def kill() -> None:
        while not marker.exists():  # noqa: ASYNC110 - a file says nothing by itself
            await asyncio.sleep(0.001)
        [child] = set(psutil.Process().children()) - others
        child.kill()

    killing = asyncio.create_task(kill())
    assert await find_deadly(waits_once, ["good", "waits", "good"], seconds=60, memory_bytes=256 * MIB) == []
    await killing


async def test_the_child_has_nothing_open() -> None:
    """One that outlives its parent must not hold the parent's ports."""
    reading, writing = os.pipe()

    def writes(_: str) -> None:
        os.write(writing, b"x")  # an OSError in the child, which is no matter of the trial

    try:
        assert await find_deadly(writes, ["a", "b"], seconds=5, memory_bytes=256 * MIB) == []
        os.close(writing)
        assert os.read(reading, 1) == b""
    finally:
        os.close(reading)
