"""Reads ranges of partitions outside any consumer group, a batch at a time; a few partitions at once, so that memory
stays bounded however many there are and however large their records."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiokafka import TopicPartition

from pipeline.batch import Partition
from pipeline.broker import translated
from pipeline.errors import FatalError

_OPEN = 8  # partitions that are prefetched at the same time; each may hold a record of 17 MiB
_WAIT_MS = 500
_PATIENCE_S = 30.0  # for a position that the broker has to say


@dataclass(frozen=True, slots=True)
class Stretch:
    """Offsets [first, next) of a partition that were passed, and the records among them (fewer: the log has gaps)."""

    records: list[Any]
    first: int
    next: int


class Source:
    """Reads on from `at` to `ends` (partitions by the database's names). `client` is a started consumer without a group."""

    def __init__(self, client: Any, prefix: str, at: Mapping[Partition, int], ends: Mapping[Partition, int]) -> None:
        self._client = client
        self._names = {TopicPartition(prefix + p.topic, p.partition): p for p in ends if at[p] < ends[p]}
        self._at = {tp: at[p] for tp, p in self._names.items()}
        self._ends = {tp: ends[p] for tp, p in self._names.items()}
        self._waiting = sorted(self._names, reverse=True)
        self._open: list[TopicPartition] = []
        if self._names:
            client.assign(list(self._names))
            client.pause(*self._names)
            for tp, offset in self._at.items():
                client.seek(tp, offset)
        self._widen()

    @property
    def finished(self) -> bool:
        """Whether everything has been read."""
        return not self._open

    async def read(self, most: int) -> dict[Partition, Stretch]:
        """The next records, at most so many; empty when nothing came for a moment.

        Raises TransientError, and FatalError when the log does not go on where it was left.
        """
        async with translated():
            found = await self._client.getmany(timeout_ms=_WAIT_MS, max_records=most)
            reached = await self._positions()
        stretches: dict[Partition, Stretch] = {}
        for tp, position in reached.items():
            records, first, end = found.get(tp, []), self._at[tp], self._ends[tp]
            if position < first or (records and records[0].offset < first):
                raise FatalError(f"{tp.topic}/{tp.partition} does not reach offset {first} any more: it was made anew")
            if position > end:
                records = [r for r in records if r.offset < end]
            following = min(position, end)
            if following > first:
                stretches[self._names[tp]] = Stretch(records, first, following)
                self._at[tp] = following
            if following == end:
                self._client.pause(tp)
                self._open.remove(tp)
        self._widen()
        return stretches

    async def _positions(self) -> dict[TopicPartition, int]:
        """Where the client is: not the last record, because the log may hold none at the end of a range."""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return {tp: await self._client.position(tp) for tp in self._open}
        except BaseException:
            for tp in self._open:  # what was fetched is given up
                self._client.seek(tp, self._at[tp])
            raise

    def _widen(self) -> None:
        while self._waiting and len(self._open) < _OPEN:
            tp = self._waiting.pop()
            self._client.resume(tp)
            self._open.append(tp)
