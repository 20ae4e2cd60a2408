"""A batch of records on its way from fetch to transaction: events read from headers, facts decoded, the rest counted."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

from msgspec import Struct

from pipeline.errors import PoisonError
from schemas.deadletters import read_death
from schemas.ids import DEFAULT_SOURCE
from schemas.topics import BACKFILL, HEADER_EVENT, HEADER_RECEIVED_AT_MS, HEADER_SOURCE, REDRIVE_PREFIX, ROUTES

F = TypeVar("F")
_EVENT_NAMES = {name.encode(): name for name in ROUTES}
_DEFAULT_SOURCE = DEFAULT_SOURCE.encode()


# One is made for each record: structs without a place in the garbage collector cost a third of named tuples.
class Place(Struct, frozen=True, gc=False):
    """Where a record stands. `topic` is without the installation's prefix."""

    topic: str
    partition: int
    offset: int


class Event(Struct, frozen=True, gc=False):
    """A record as a consumer's decode sees it."""

    place: Place
    event: str
    source: str
    received_at_ms: int
    backfill: bool
    value: bytes


class Partition(NamedTuple):
    """A partition as progress rows name it."""

    topic: str
    partition: int


@dataclass(slots=True)
class Tally:
    """The records of one partition in one batch: offsets [first, next), the time of the first (0: unknown), how many there
    were, which were not wanted."""

    first: int
    next: int
    first_ms: int = 0
    records: int = 0
    skipped: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Dead:
    """A record that can never be stored, why, and how it was found: `halvings` of a batch of `batch_records` facts
    until it stood alone; both 0 when it could not be decoded."""

    place: Place
    record: Any  # aiokafka's ConsumerRecord
    error: PoisonError
    batch_records: int = 0
    halvings: int = 0


@dataclass(slots=True)
class Batch(Generic[F]):
    """Decoded records: `facts`, `places` and `records` side by side, dead ones apart, skipped ones only counted."""

    epoch: int
    tallies: dict[Partition, Tally] = field(default_factory=dict)
    facts: list[F] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    records: list[Any] = field(default_factory=list)
    dead: list[Dead] = field(default_factory=list)
    taken_at: float = field(default_factory=time.perf_counter)
    prepared: Any = None  # what the consumer made of all facts; None when some of them are not storable

    def __len__(self) -> int:
        return sum(t.records for t in self.tallies.values())


def read_headers(record: Any, topic: str) -> Event:
    """The event of a record by its headers alone; a header that is missing or not ASCII reads as empty.

    A redriven dead letter has the lane and the time of its first record.
    """
    headers = dict(record.headers)
    lane, time_ms = topic, record.timestamp or 0
    if topic.startswith(REDRIVE_PREFIX) and (death := read_death(record.headers)) is not None:
        lane, time_ms = death.topic, death.time_ms
    event, source = headers.get(HEADER_EVENT) or b"", headers.get(HEADER_SOURCE) or _DEFAULT_SOURCE
    stamp = headers.get(HEADER_RECEIVED_AT_MS) or b""
    return Event(
        Place(topic, record.partition, record.offset),
        _EVENT_NAMES.get(event) or event.decode("ascii", "replace"),
        DEFAULT_SOURCE if source == _DEFAULT_SOURCE else source.decode("ascii", "replace"),
        int(stamp) if len(stamp) < 15 and stamp.isdigit() else time_ms,
        lane == BACKFILL.name,
        record.value or b"",
    )
