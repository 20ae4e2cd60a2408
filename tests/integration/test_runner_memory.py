"""Memory is bounded: partitions full of the largest records do not make a process larger than its settings say."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import psutil

from tests.integration.conftest import MakeDesk
from tests.integration.numbers import Desk, Reading
from tests.integration.processes import process
from tests.site import until

MIB = 2**20
LARGEST = 16 * MIB
PARTITIONS, EACH = 12, 3


async def test_the_largest_records_on_every_partition(make_desk: MakeDesk, tmp_path: Path) -> None:
    """While the database does not move: four batches of one such record each (it is a batch of its own), one answer of
    the broker, and what the client copies of it as it arrives; each may be held twice for a moment."""
    desk = await make_desk(PARTITIONS)
    await desk.publish(range(100))
    filler = b" " + b"x" * (LARGEST - 100)
    async with process(desk, tmp_path / "log") as running:
        await desk.settled()
        watched = psutil.Process(running.pid)
        before = watched.memory_info().rss
        locking = await asyncpg.connect(desk.settings.database.dsn())
        try:
            await locking.execute("BEGIN; LOCK TABLE public.numbers IN ACCESS EXCLUSIVE MODE")
            for n in range(EACH):
                for start in range(0, PARTITIONS, 4):  # a request has 100 MB at most
                    await desk.publish([b"%d" % (1000 + n) + filler] * 4, partitions=range(start, start + 4))
            await settled_memory(watched)
        finally:
            await locking.close()
        await until(lambda: all_there(desk, 100 + PARTITIONS * EACH), "everything to be stored", 240)
        peak = peak_bytes(await asyncio.to_thread(Path(f"/proc/{running.pid}/status").read_text))
    own = desk.settings.consumer
    batch, answer = max(own.batch_bytes, LARGEST), max(own.fetch_max_bytes, LARGEST)
    print(f"before {before // MIB} MiB, peak {peak // MIB} MiB, batch {batch // MIB} MiB, answer {answer // MIB} MiB")
    assert peak - before <= 6 * (batch + answer)


async def settled_memory(watched: psutil.Process) -> None:
    """Returns when the process has not grown for three seconds."""
    seen: list[int] = []

    async def probe() -> bool | None:
        seen.append(watched.memory_info().rss)
        await asyncio.sleep(0.1)
        return True if len(seen) > 30 and max(seen[-30:]) <= max(seen[:-30]) + MIB else None

    await until(probe, "its memory to stop growing")


async def all_there(desk: Desk, count: int) -> bool | None:
    return True if await desk.count() >= count else None


def peak_bytes(status: str) -> int:
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


async def test_a_database_that_is_away_does_not_fill_memory(make_desk: MakeDesk) -> None:
    """While nothing can be stored, nothing more is fetched: four batches, and one answer behind them."""
    desk = await make_desk(PARTITIONS)
    filler = b" " + b"x" * 1_000_000
    for n in range(5):
        await desk.publish([b"%d" % (100 * n + p) + filler for p in range(PARTITIONS)])
    async with desk.reading(batch_bytes="2000000", fetch_max_bytes="2000000") as reading:
        reading.consumer.away = True
        await until(lambda: all_in_hand(reading), "the writers to have one each, and one more to be decoded")
        assert reading.runner.ready() == "postgres_away"
        client = reading.runner._stream.client
        fetched = {tp: await client.position(tp) for tp in client.assignment()}
        await asyncio.sleep(1)  # the client would ask for further partitions after 0.1 s
        assert {tp: await client.position(tp) for tp in client.assignment()} == fetched
        assert sum(fetched.values()) <= 12  # four batches, each closed by its second or third record
        assert len(client._fetcher._records) <= 3  # partitions of one answer
        reading.consumer.away = False
        await desk.settled()
    assert await desk.count() == 60


async def all_in_hand(reading: Reading) -> bool | None:
    flight = reading.runner._in_flight
    return True if flight._taking and not flight.room.is_set() else None
