"""What the spool's tests share: records, slots, and a broker that can be taken away."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.broker import Headers
from pipeline.errors import PoisonError, TransientError
from pipeline.reader import read_bounds, read_records
from pipeline.settings import Settings
from pipeline.spool.record import Record, encode
from pipeline.spool.segment import OpenSegment, Segment
from pipeline.spool.slot import Slot, claim
from schemas.topics import MESSAGE, Topic


def record(number: int, size: int = 20, *, at_ms: int = 1_700_000_000_001) -> Record:
    """The record of this number: its value begins with it."""
    value = (b"%d " % number).ljust(size, b"x")
    return Record(
        "waha.message", b"key-%d" % number, [("event", b"message"), ("event-id", b"e%d" % number)], value, at_ms
    )


def records(count: int, size: int = 20) -> list[Record]:
    return [record(n, size) for n in range(count)]


def write_segment(folder: Path, written: Sequence[Record], number: int = 1) -> Segment:
    """A closed segment as a process that ended leaves it."""
    opened = OpenSegment(folder / f"{number:010d}.spool")
    if written:
        opened.append([encode(r) for r in written])
    opened.close()
    return opened.segment


def leave_slot(root: Path, *segments: Sequence[Record]) -> Path:
    """A slot of a process that is gone, with these segments."""
    slot = claim(root, "")
    for number, written in enumerate(segments, 1):
        write_segment(slot.path, written, number)
    slot.close()
    return slot.path


@dataclass
class Broker:
    """A publisher that remembers in which order records came. While `away` it refuses; what is in `large` is too large."""

    away: bool = False
    large: set[bytes] = field(default_factory=set)  # values
    taken: list[Record] = field(default_factory=list)
    tries: int = 0
    tries_left: int | None = None  # goes away after so many
    gate: asyncio.Event | None = None  # holds every record back until it is set

    @property
    def ready(self) -> bool:
        return not self.away

    async def publish(self, topic: str, key: bytes, value: bytes, headers: Headers, *, deadline_s: float) -> None:
        await self.take(Record(topic, key, headers, value, 0))

    async def take(self, one: Record) -> None:
        self.tries += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.tries_left is not None:
            self.tries_left -= 1
            self.away = self.tries_left < 0
        if self.away:
            raise TransientError("kafka", "away")
        if one.value in self.large:
            raise PoisonError("too_large_for_broker")
        self.taken.append(one)

    @property
    def values(self) -> list[bytes]:
        return [r.value for r in self.taken]


def values(written: Sequence[Record]) -> list[bytes]:
    return [r.value for r in written]


def recovered(root: Path) -> Slot:
    """The first slot, as a starting process has it."""
    slot = claim(root, "")
    slot.recover()
    return slot


async def in_topic(settings: Settings, topic: Topic = MESSAGE) -> list[Any]:
    """Every record of a topic, each partition in order."""
    found: list[Any] = []
    async for some in read_records(settings.kafka, topic, await read_bounds(settings.kafka, topic)):
        found += some
    return found
