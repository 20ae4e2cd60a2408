"""Live records before those of a backfill: what a batch is made of, and what the buffer of aiokafka may hold beside it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from aiokafka import TopicPartition

from pipeline.fetch import Batcher, pass_over

LIVE, OLD = TopicPartition("live", 0), TopicPartition("old", 0)
MIB = 1024 * 1024


@dataclass(frozen=True)
class One:
    topic: str
    serialized_value_size: int = 100


class Records:
    """aiokafka's MemoryRecords."""

    def __init__(self, size: int) -> None:
        self.size_in_bytes = lambda: size


class Result:
    """aiokafka's FetchResult."""

    def __init__(self, size: int) -> None:
        self._partition_records = type("PartitionRecords", (), {"_records": Records(size)})()
        self._backoff = 1e9


@dataclass
class Fetcher:
    _records: dict[TopicPartition, Any] = field(default_factory=dict)
    _fetch_max_bytes: int = 8 * MIB
    _wait_consume_future: object = None
    asked: int = 0

    def _notify(self, _: object) -> None:
        self.asked += 1


@dataclass
class Client:
    """aiokafka's consumer: records by partition, `later` those that come while somebody waits."""

    there: dict[TopicPartition, int]
    later: list[dict[TopicPartition, int]] = field(default_factory=list)
    now: float = 1000.0
    _fetcher: Fetcher = field(default_factory=Fetcher)

    def assignment(self) -> set[TopicPartition]:
        return {LIVE, OLD}

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: float = 0, max_records: int
    ) -> dict[TopicPartition, list[One]]:
        if timeout_ms and not any(self.there.values()):
            self.there = self.later.pop(0) if self.later else {}
            self.now += timeout_ms / 2000 if self.there else timeout_ms / 1000
        found: dict[TopicPartition, list[One]] = {}
        for tp in partitions or (OLD, LIVE):
            count = min(self.there.get(tp, 0), max_records)
            if count:
                self.there[tp] -= count
                max_records -= count
                found[tp] = [One(tp.topic)] * count
        return found


def batcher(client: Client, rows: int = 100, age_s: float = 0.0) -> Batcher:
    return Batcher(rows, 10**9, age_s, behind={"old"}, clock=lambda: client.now)


async def taken(made: Batcher, client: Client, batches: int) -> list[tuple[int, int]]:
    """Live and other records of each batch."""
    found = []
    for _ in range(batches):
        topics = [r.topic for r in await made.next(client)]
        assert topics == sorted(topics), "live ones first"
        found.append((topics.count("live"), topics.count("old")))
    return found


async def test_live_records_go_first_and_leave_a_quarter() -> None:
    client = Client({LIVE: 130, OLD: 1000})
    assert await taken(batcher(client), client, 4) == [(100, 0), (30, 0), (0, 25), (0, 25)]


async def test_what_live_records_leave_of_the_quarter_is_filled() -> None:
    client = Client({LIVE: 10, OLD: 1000})
    assert await taken(batcher(client), client, 2) == [(10, 15), (0, 25)]


async def test_without_live_records_batches_are_whole_again() -> None:
    client = Client({LIVE: 1, OLD: 1000})
    made = batcher(client)
    assert await taken(made, client, 2) == [(1, 24), (0, 25)]
    client.now += 3
    assert await taken(made, client, 2) == [(0, 100), (0, 100)]


async def test_a_backfill_alone_waits_for_nothing() -> None:
    client = Client({OLD: 150})
    begun = client.now
    assert await taken(batcher(client), client, 2) == [(0, 100), (0, 50)]
    assert client.now == begun


async def test_live_records_wait_for_company_until_the_batch_is_old_enough() -> None:
    client = Client({LIVE: 1}, later=[{LIVE: 2}, {LIVE: 3}])
    begun = client.now
    assert await taken(batcher(client, age_s=0.1), client, 1) == [(6, 0)]
    assert client.now - begun == pytest.approx(0.1)


@pytest.mark.parametrize(("sizes", "passes"), [([MIB] * 12, True), ([9 * MIB, 8 * MIB], False)])
def test_the_buffer_stays_bounded(sizes: list[int], passes: bool) -> None:
    """What waits is passed over as long as it is no more than two answers."""
    client = Client({})
    client._fetcher._records = {TopicPartition("old", n): Result(size) for n, size in enumerate(sizes)}
    pass_over(client, {"old"})
    assert [r._backoff == 0 for r in client._fetcher._records.values()] == [passes] * len(sizes)
    assert client._fetcher.asked == int(passes)
    pass_over(client, {"old"})  # nothing has changed: nobody is woken
    assert client._fetcher.asked == int(passes)


def test_live_records_are_not_passed_over() -> None:
    client = Client({})
    client._fetcher._records = {LIVE: Result(MIB)}
    pass_over(client, {"old"})
    assert client._fetcher._records[LIVE]._backoff > 0
