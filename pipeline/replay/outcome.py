"""What a replay shows while it runs and tells when it has ended."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline.batch import Batch
from pipeline.inflight import Turn
from pipeline.replay.compare import Difference
from pipeline.replay.loop import Loop, Runs
from pipeline.replay.ranges import Range
from pipeline.replay.selection import FILTERED
from pipeline.replay.shadow import Counted


@dataclass(slots=True)
class Watched:
    """What others may see while a replay runs. `before`: offsets that earlier attempts stored."""

    phase: str = "asking the broker"
    id: int | None = None
    total: int = 0
    before: int = 0
    loop: Loop[Any] | None = None

    @property
    def passed(self) -> int:
        """Offsets that are behind it."""
        return self.before + (self.loop.passed if self.loop else 0)

    @property
    def away(self) -> str | None:
        """The dependency that is waited for."""
        return next(iter(sorted(self.loop.away)), None) if self.loop else None


@dataclass(slots=True)
class Outcome:
    """How it ended: done, stopped (it can go on), failed (its books differ), or nothing (no record in the ranges).

    `before`: offsets that earlier attempts passed. `dead_letters` by reason, of a shadow replay in this process; others
    are in the consumer's dead-letter topic. `unread`: records left out of a shadow replay because live has not stored them yet.
    """

    consumer: str
    state: str
    id: int | None = None
    passed: int = 0
    before: int = 0
    total: int = 0
    books: dict[str, int] = field(default_factory=dict)
    skipped_events: dict[str, int] = field(default_factory=dict)
    difference: int = 0
    elapsed_s: float = 0.0
    dead_letters: dict[str, int] = field(default_factory=dict)
    dead_places: list[str] = field(default_factory=list)
    tables: list[Difference] = field(default_factory=list)
    scratch: str | None = None
    unread: int = 0

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(slots=True)
class Rehearsal:
    """What a replay would read: records of the ranges, those that the filters keep, and what decoding makes of them."""

    consumer: str
    ranges: list[Range]
    records: int = 0
    filtered: int = 0
    decoded: int = 0
    skipped_events: Counter[str] = field(default_factory=Counter)
    dead: Counted = field(default_factory=Counted)
    complete: bool = True

    async def take(self, batch: Batch[Any], _: Runs, turn: Turn) -> None:
        """Counts a batch."""
        await turn.come()
        for tally in batch.tallies.values():
            self.records += tally.records
            self.filtered += tally.skipped.pop(FILTERED, 0)
            self.skipped_events += tally.skipped
        self.decoded += len(batch.facts)
        for dead in batch.dead:
            self.dead.add(dead.error.reason, f"{dead.place.topic}/{dead.place.partition}/{dead.place.offset}")
