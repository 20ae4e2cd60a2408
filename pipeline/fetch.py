"""One batch out of aiokafka's buffer, bounded by rows, bytes and age; and that buffer itself bounded to one answer.

aiokafka bounds a batch by rows alone, and fills its buffer once for each partition: with the largest records that is
gigabytes. Called by pipeline.stream.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from operator import attrgetter
from typing import Any

_IDLE_MS = 200  # longest wait for a first record; nothing depends on it but how often an idle consumer looks around
_NEVER_S = 1e9

_size = attrgetter("serialized_value_size")  # -1 of a tombstone


class Batcher:
    """Takes batches of at most `rows` records; one is closed when its bodies reach `max_bytes`, or when nothing came
    for as long as is left of `age_s` since its first record; half full, it waits for nothing.

    How many are taken at once depends on the largest record met lately, so that `max_bytes` is hardly exceeded.
    """

    def __init__(self, rows: int, max_bytes: int, age_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rows, self._max_bytes, self._age_s, self._clock = rows, max_bytes, age_s, clock
        self._largest = max_bytes  # a guess at the next record's size: it falls by half as long as they are smaller

    async def next(self, client: Any) -> list[Any]:
        """The next batch; empty when nothing came for a while. Raises what aiokafka raises."""
        batch: list[Any] = []
        size, timeout_ms, closes_at = 0, float(_IDLE_MS), 0.0
        while len(batch) < self._rows and size < self._max_bytes:
            room = max(1, (self._max_bytes - size) // self._largest)
            found = await client.getmany(timeout_ms=timeout_ms, max_records=min(room, self._rows - len(batch)))
            if not found:
                break
            if not batch:
                closes_at = self._clock() + self._age_s
            for records in found.values():
                sizes = list(map(_size, records))
                size += sum(sizes)
                self._largest = max(1, self._largest // 2, *sizes)
                batch += records
            half_full = 2 * len(batch) >= self._rows  # then the broker, asked already, answers while this is decoded
            timeout_ms = 0.0 if half_full else max(0.0, closes_at - self._clock()) * 1000
        return batch


def bound_buffer(client: Any) -> None:
    """One answer of a broker in memory at a time: a started consumer asks again only when the last one is used up.

    By default aiokafka asks for other partitions after 0.1 s, and holds an answer for each of them.
    """
    client._fetcher._prefetch_backoff = _NEVER_S
