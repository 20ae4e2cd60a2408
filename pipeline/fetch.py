"""One batch out of aiokafka's buffer, bounded by rows, bytes and age, live records first; and that buffer itself bounded.

aiokafka bounds a batch by rows alone, and fills its buffer once for each partition: with the largest records that is
gigabytes. Called by pipeline.stream.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from operator import attrgetter
from typing import Any

_IDLE_MS = 200  # longest wait for a first record; nothing depends on it but how often an idle consumer looks around
_NEVER_S = 1e9
_BUSY_S = 2.0  # so long after a live record, batches are kept small for the next one
_BITE_SHARE = 4  # a batch has a quarter of its rows for backfill then

_size = attrgetter("serialized_value_size")  # -1 of a tombstone


class Batcher:
    """Takes batches of at most `rows` records; one is closed when its bodies reach `max_bytes`, or when nothing came
    for as long as is left of `age_s` since its first record; half full, it waits for nothing.

    Records of the topics `behind` (backfill) wait for all others: they fill what these leave of a batch, and while others come,
    a quarter of it at most, so that the next ones do not wait long for this batch to be stored.

    How many are taken at once depends on the largest record met lately, so that `max_bytes` is hardly exceeded.
    """

    def __init__(
        self, rows: int, max_bytes: int, age_s: float, *, behind: Collection[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._rows, self._max_bytes, self._age_s, self._clock = rows, max_bytes, age_s, clock
        self._behind = frozenset(behind)
        self._largest = max_bytes  # a guess at the next record's size: it falls by half as long as they are smaller
        self._busy_until = 0.0
        self._batch: list[Any] = []
        self._bytes = 0

    async def next(self, client: Any) -> list[Any]:
        """The next batch; empty when nothing came for a while. Raises what aiokafka raises."""
        self._batch, self._bytes = [], 0
        if self._behind:
            return await self._next_live_first(client)
        timeout_ms, closes_at = float(_IDLE_MS), 0.0
        while self._has_room(self._rows):
            if not self._take(await client.getmany(timeout_ms=timeout_ms, max_records=self._room(self._rows))):
                break
            closes_at = closes_at or self._clock() + self._age_s
            timeout_ms = self._patience_ms(closes_at)
        return self._batch

    async def _next_live_first(self, client: Any) -> list[Any]:
        closes_at, timeout_ms = 0.0, float(_IDLE_MS)
        while self._has_room(self._rows):
            pass_over(client, self._behind)
            if not (await self._take_live(client) or await self._take_behind(client)):
                if self._batch and (not self._has_room(self._most()) or self._clock() >= closes_at):
                    break
                if not self._take(await client.getmany(timeout_ms=timeout_ms, max_records=self._room(self._most()))):
                    break
            closes_at = closes_at or self._clock() + self._age_s
            timeout_ms = self._patience_ms(closes_at)
        return self._batch

    async def _take_live(self, client: Any) -> bool:
        live = [tp for tp in client.assignment() if tp.topic not in self._behind]
        return bool(live) and self._take(await client.getmany(*live, max_records=self._room(self._rows)))

    async def _take_behind(self, client: Any) -> bool:
        behind, most = [tp for tp in client.assignment() if tp.topic in self._behind], self._most()
        if not behind or not self._has_room(most):
            return False
        return self._take(await client.getmany(*behind, max_records=self._room(most)))

    def _patience_ms(self, closes_at: float) -> float:
        """Half full, the batch waits for nothing: the broker, asked already, answers while it is decoded."""
        return 0.0 if 2 * len(self._batch) >= self._rows else max(0.0, closes_at - self._clock()) * 1000

    def _most(self) -> int:
        """Rows at which no more is taken of what waits."""
        return max(1, self._rows // _BITE_SHARE) if self._clock() < self._busy_until else self._rows

    def _has_room(self, rows: int) -> bool:
        return len(self._batch) < rows and self._bytes < self._max_bytes

    def _room(self, rows: int) -> int:
        return min(max(1, (self._max_bytes - self._bytes) // self._largest), rows - len(self._batch))

    def _take(self, found: dict[Any, list[Any]]) -> bool:
        if self._behind and any(tp.topic not in self._behind for tp in found):
            self._busy_until = self._clock() + _BUSY_S
        for records in found.values():
            sizes = list(map(_size, records))
            self._bytes += sum(sizes)
            self._largest = max(1, self._largest // 2, *sizes)
            self._batch += records
        return bool(found)


def bound_buffer(client: Any) -> None:
    """One answer of a broker in memory at a time: a started consumer asks again only when the last one is used up.

    By default aiokafka asks for other partitions after 0.1 s, and holds an answer for each of them.
    """
    client._fetcher._prefetch_backoff = _NEVER_S


def pass_over(client: Any, behind: Collection[str]) -> None:
    """Lets the consumer ask for its other partitions while the buffer holds nothing but records of the topics `behind`, as long
    as these are no more than two answers: live records do not wait until they are used up.
    """
    fetcher = client._fetcher
    waiting = [r for tp, r in fetcher._records.items() if tp.topic in behind and r._backoff]
    if not waiting or sum(map(_buffered_bytes, fetcher._records.values())) > 2 * fetcher._fetch_max_bytes:
        return
    for result in waiting:
        result._backoff = 0
    fetcher._notify(fetcher._wait_consume_future)


def _buffered_bytes(result: Any) -> int:
    """Bytes of a partition's part of an answer that nobody has taken; 0 for an error, and when the last record was."""
    records = getattr(result, "_partition_records", None)
    return int(records._records.size_in_bytes()) if records is not None else 0
