"""Reads ranges of partitions outside any consumer group, a batch at a time, bounded as live batches are."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiokafka import TopicPartition

from pipeline.batch import Partition
from pipeline.broker import translated
from pipeline.errors import FatalError
from pipeline.fetch import Batcher, bound_buffer

_PATIENCE_S = 30.0  # for a position that the broker has to say


@dataclass(frozen=True, slots=True)
class Stretch:
    """Offsets [first, next) of a partition that were passed, and the records among them (fewer: the log has gaps)."""

    records: list[Any]
    first: int
    next: int


class Source:
    """Reads on from `at` to `ends` (partitions by the database's names). `client` is a started consumer without a group."""

    def __init__(
        self, client: Any, prefix: str, at: Mapping[Partition, int], ends: Mapping[Partition, int], batcher: Batcher
    ) -> None:
        self._client, self._batcher = client, batcher
        self._names = {TopicPartition(prefix + p.topic, p.partition): p for p in ends if at[p] < ends[p]}
        self._at = {tp: at[p] for tp, p in self._names.items()}
        self._ends = {tp: ends[p] for tp, p in self._names.items()}
        bound_buffer(client)
        if self._names:
            client.assign(list(self._names))
            self._seek()

    @property
    def finished(self) -> bool:
        """Whether everything has been read."""
        return not self._at

    async def read(self) -> dict[Partition, Stretch]:
        """The next batch; empty when nothing came for a moment.

        Raises TransientError, and FatalError when the log does not go on where it was left.
        """
        found: dict[TopicPartition, list[Any]] = defaultdict(list)
        try:
            async with translated():
                for record in await self._batcher.next(self._client):
                    found[TopicPartition(record.topic, record.partition)].append(record)
                async with asyncio.timeout(_PATIENCE_S):
                    # Not the last record: the log may hold none at the end of a range.
                    reached = {tp: await self._client.position(tp) for tp in self._at}
        except BaseException:
            self._seek()  # what was fetched is given up
            raise
        return {self._names[tp]: s for tp, at in reached.items() if (s := self._advance(tp, at, found[tp])) is not None}

    def _advance(self, tp: TopicPartition, position: int, records: list[Any]) -> Stretch | None:
        first, end = self._at[tp], self._ends[tp]
        if position < first or (records and records[0].offset < first):
            raise FatalError(f"{tp.topic}/{tp.partition} does not reach offset {first} any more: it was made anew")
        following = min(position, end)
        self._at[tp] = following
        if following == end:
            self._client.pause(tp)
            del self._at[tp]
        if following == first:
            return None
        return Stretch(records if position <= end else [r for r in records if r.offset < end], first, following)

    def _seek(self) -> None:
        for tp, offset in self._at.items():
            self._client.seek(tp, offset)
