"""Group commit: one sync for many, nothing acknowledged that is not on disk, the cap, and disks that refuse."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import TransientError
from pipeline.spool.contents import read_spool
from pipeline.spool.drain import drain
from pipeline.spool.record import Record, encode
from pipeline.spool.slot import claim, segment_files
from pipeline.spool.writer import Writer
from tests.spooling import Broker, record, records, recovered, values

PLENTY = 10**9


@contextmanager
def syncs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Counts syncs of files (not of directories)."""
    counted: list[int] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        if os.path.isfile(f"/proc/self/fd/{fd}"):
            counted.append(fd)
        real(fd)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        yield counted


@contextmanager
def broken(monkeypatch: pytest.MonkeyPatch, call: str, error: int, *, times: int) -> Iterator[None]:
    """`os.<call>` fails `times` times."""
    real: Callable[..., Any] = getattr(os, call)
    left = times

    def fail(*arguments: Any) -> Any:
        nonlocal left
        if left > 0:
            left -= 1
            raise OSError(error, os.strerror(error))
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        yield


async def put(writer: Writer, one: Record) -> None:
    await writer.put(encode(one), one.at_ms)


async def drained(root: Path) -> list[bytes]:
    """What the next process sends."""
    slot, broker = recovered(root), Broker()
    await drain(slot, broker.take, lambda _: None)
    slot.close()
    return broker.values


async def test_many_callers_share_a_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slot = claim(tmp_path, "")
    writer = Writer(slot, PLENTY)
    with syncs(monkeypatch) as counted:
        await asyncio.gather(*(put(writer, r) for r in records(200)))
    assert len(counted) <= 2
    await writer.close()
    slot.close()
    assert await drained(tmp_path) == values(records(200))


async def test_acknowledged_means_on_disk(tmp_path: Path) -> None:
    slot = claim(tmp_path, "")
    writer = Writer(slot, PLENTY)
    for number in range(5):
        await put(writer, record(number))
        [seen] = read_spool(tmp_path, "")  # another process sees it, nothing is closed yet
        assert (seen.records, seen.torn_bytes, seen.damaged) == (number + 1, 0, 0)
    await writer.close()
    slot.close()


async def test_a_caller_that_gave_up_hurts_nobody(tmp_path: Path) -> None:
    slot = claim(tmp_path, "")
    writer = Writer(slot, PLENTY)
    gone, stays = asyncio.create_task(put(writer, record(1))), asyncio.create_task(put(writer, record(2)))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, stays, return_exceptions=True)
    assert stays.exception() is None
    await writer.close()
    slot.close()
    assert await drained(tmp_path) == values([record(1), record(2)])


async def test_segments_are_closed_when_they_are_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.spool.writer.SEGMENT_BYTES", 1000)
    slot = claim(tmp_path, "")
    writer = Writer(slot, PLENTY)
    await asyncio.gather(*(put(writer, r) for r in records(60, 200)))
    await put(writer, record(60, 5000))
    sizes = [s.size_bytes for s in slot.segments]
    assert len(sizes) > 5
    assert all(1000 <= size < 2000 for size in sizes[:-1])
    assert slot.records + writer.records == 61
    await writer.close()
    slot.close()
    assert await drained(tmp_path) == values([*records(60, 200), record(60, 5000)])


async def test_a_full_spool_takes_nothing_and_has_room_again_when_it_is_drained(tmp_path: Path) -> None:
    size = len(encode(record(0)))
    slot, broker = claim(tmp_path, ""), Broker()
    writer = Writer(slot, 16 + 3 * size)
    for number in range(3):
        await put(writer, record(number))
    with pytest.raises(TransientError, match="full"):
        await put(writer, record(3))
    await writer.seal()
    with pytest.raises(TransientError, match="full"):
        await put(writer, record(3))
    await drain(slot, broker.take, lambda _: None)
    await put(writer, record(4))
    assert writer.size_bytes + slot.size_bytes == 16 + size
    await writer.close()
    slot.close()
    assert await drained(tmp_path) == values([record(4)])


async def test_those_who_wait_count_against_the_cap(tmp_path: Path) -> None:
    slot = claim(tmp_path, "")
    writer = Writer(slot, 16 + 3 * len(encode(record(0))))
    results = await asyncio.gather(*(put(writer, record(n)) for n in range(9)), return_exceptions=True)
    refused = sum(isinstance(r, TransientError) for r in results)
    assert 5 <= refused <= 6  # the header of the file is not known to be written before the first is
    await writer.close()
    slot.close()
    assert len(await drained(tmp_path)) == 9 - refused


@pytest.mark.parametrize(("call", "error"), [("write", errno.ENOSPC), ("fsync", errno.EIO), ("open", errno.EDQUOT)])
@pytest.mark.parametrize("times", [1, 2])
async def test_a_disk_that_refuses_is_said_and_acknowledges_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, error: int, times: int
) -> None:
    slot = claim(tmp_path, "")
    writer = Writer(slot, PLENTY)
    acknowledged = [record(0)]
    if call != "open":  # a file is open already, or is to be made
        await put(writer, record(0))
    else:
        acknowledged.clear()
    with broken(monkeypatch, call, error, times=times):
        for number in range(1, 1 + times):
            with pytest.raises(TransientError, match="the disk refuses"):
                await put(writer, record(number))
        await put(writer, record(9))
    acknowledged.append(record(9))
    assert writer.records + slot.records == len(acknowledged)
    await writer.close()
    slot.close()
    assert await drained(tmp_path) == values(acknowledged)
    assert segment_files(slot.path) == []


async def test_a_write_that_stops_half_way_leaves_no_half_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot = claim(tmp_path, "")
    writer = Writer(slot, PLENTY)
    await put(writer, record(0))
    real, calls = os.write, 0

    def half(fd: int, data: memoryview) -> int:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data[: len(data) // 2])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half)
        with pytest.raises(TransientError):
            await put(writer, record(1))
    [seen] = read_spool(tmp_path, "")
    assert (seen.records, seen.torn_bytes) == (1, 0)
    await put(writer, record(2))
    await writer.close()
    slot.close()
    assert await drained(tmp_path) == values([record(0), record(2)])


async def test_whatever_fails_nobody_waits_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slot = claim(tmp_path, "")
    writer = Writer(slot, PLENTY)

    def unexpected() -> Any:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(slot, "new_segment", unexpected)
        with pytest.raises(TransientError, match="not written"):
            await put(writer, record(1))
    await put(writer, record(2))
    await writer.close()
    slot.close()
    assert await drained(tmp_path) == values([record(2)])


async def test_sealing_takes_along_what_was_just_brought(tmp_path: Path) -> None:
    """Its commit has not begun. Were it left out, a drain that goes on while there are records would never let it begin."""
    slot = claim(tmp_path, "")
    writer = Writer(slot, PLENTY)
    putting = asyncio.create_task(put(writer, record(1)))
    await asyncio.sleep(0)  # it waits for its commit, which is the next task in turn
    assert writer.records == 1
    await writer.seal()
    assert [s.records for s in slot.segments] == [1]
    assert writer.records == 0
    await putting
    await writer.close()
    slot.close()
