"""The books of the whole installation: broker on one side, progress rows on the other. Read-only."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from typing import Any

from aiokafka import TopicPartition

from pipeline import books
from pipeline.broker import log_bounds, topic_states
from pipeline.postgres import Pool, open_pool
from pipeline.postgres import translated as database_errors
from pipeline.reader import open_reader
from pipeline.registry import consumer_names
from pipeline.replay.spec import is_replay
from pipeline.settings import Settings
from pipeline.spool.contents import count_records
from schemas.topics import BACKFILL, LIVE_TOPICS, PARKED, Topic, all_topics, redrive_topic

Bounds = dict[TopicPartition, tuple[int, int]]


@dataclass(slots=True)
class Line:
    """One consumer. `lag`: records of its topics that it has not reached; `difference`: records unaccounted for."""

    consumer: str
    records: int = 0
    written: int = 0
    merged: int = 0
    skipped: int = 0
    dead: int = 0
    gap: int = 0
    lag: int = 0
    difference: int = 0
    skipped_events: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ledger:
    """`received`: records ever published to the live and backfill topics (end offsets), `fetched`: those of the backfill topic
    among them; `difference` is 0 when all is well."""

    received: int
    fetched: int
    parked: int
    unread: int  # records of partitions that no consumer has begun
    lines: list[Line]
    spooled: int | None = None  # records in the spool on this machine, not in the topics yet; None where there is none
    replays: list[Line] = field(default_factory=list)  # without lag: what they have not reached is nobody's backlog

    @property
    def difference(self) -> int:
        """Sum of all differences, those of replays too."""
        return sum(line.difference for line in (*self.lines, *self.replays))

    @property
    def lag(self) -> int:
        """Records that some consumer has not reached yet."""
        return sum(line.lag for line in self.lines)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "received": self.received, "fetched": self.fetched, "parked": self.parked, "unread": self.unread, "lag": self.lag,
            "difference": self.difference, "spooled": self.spooled,
            "consumers": [asdict(line) for line in self.lines],
            "replays": [asdict(line) for line in self.replays],
        }  # fmt: skip


async def read_ledger(settings: Settings, pool: Pool | None = None) -> Ledger:
    """Both sides of the books. Raises TransientError when one of them cannot be read. Opens a pool unless given one."""
    if pool is None:
        async with await open_pool(settings.database, name="ledger", max_size=1) as opened:
            return await read_ledger(settings, opened)
    async with database_errors():
        accounts, by_name = await books.snapshot(pool)
    rows = [a for a in accounts if not is_replay(a.consumer)]
    skipped = [s for s in by_name if not is_replay(s.consumer)]
    # The broker is asked second: a record that arrives in between is lag, never a difference.
    bounds = await _read_bounds(settings, all_topics(consumer_names()))
    events = {t.name for t in (*LIVE_TOPICS, BACKFILL)}
    received = sum(end for (topic, _), (_, end) in bounds.items() if topic in events)
    fetched = sum(end for (topic, _), (_, end) in bounds.items() if topic == BACKFILL.name)
    parked = sum(end for (topic, _), (_, end) in bounds.items() if topic == PARKED.name)
    begun = {(r.topic, r.partition) for r in rows}
    to_read = events | {redrive_topic(name).name for name in consumer_names()}
    unread = sum(end - begin for tp, (begin, end) in bounds.items() if tp.topic in to_read and tuple(tp) not in begun)
    spooled = await asyncio.to_thread(count_records, settings.spool_folder, settings.kafka.topic_prefix)
    replays = _lines([a for a in accounts if is_replay(a.consumer)], [s for s in by_name if is_replay(s.consumer)], {})
    return Ledger(received, fetched, parked, unread, _lines(rows, skipped, bounds), spooled, replays)


def _lines(rows: list[books.Account], skipped: list[books.Skipped], bounds: Bounds) -> list[Line]:
    lines: dict[str, Line] = defaultdict(lambda: Line(""))
    topics: dict[str, set[str]] = defaultdict(set)
    at = {(r.consumer, r.topic, r.partition): r for r in rows}
    for row in rows:
        line = lines[row.consumer]
        line.consumer = row.consumer
        topics[row.consumer].add(row.topic)
        for column in ("records", "written", "merged", "skipped", "dead", "gap"):
            setattr(line, column, getattr(line, column) + getattr(row, column))
    for entry in skipped:
        lines[entry.consumer].skipped_events[entry.event] = entry.records
    for name, line in lines.items():
        line.difference = books.difference(
            (r for r in rows if r.consumer == name), (s for s in skipped if s.consumer == name)
        )
        for (topic, partition), (begin, end) in bounds.items():
            if topic not in topics[name]:
                continue
            row_at = at.get((name, topic, partition))
            if row_at is None:
                line.lag += end - begin
            else:
                line.lag += max(0, end - row_at.next_offset)
                # Stored further than the log reaches: the topic was made anew, or the broker lost what it acknowledged.
                line.difference += max(0, row_at.next_offset - end)
    return sorted(lines.values(), key=lambda line: line.consumer)


async def _read_bounds(settings: Settings, topics: list[Topic]) -> Bounds:
    """Begin and end of every partition of these topics, by name without prefix; missing topics are left out."""
    states = await topic_states(settings.kafka, topics)
    wanted = {TopicPartition(s.name, p): s.topic.name for s in states for p in range(s.partitions)}
    async with open_reader(settings.kafka) as consumer:
        consumer.assign(list(wanted))  # fetches all their metadata at once instead of topic by topic with pauses
        bounds = await log_bounds(consumer, list(wanted))
    return {TopicPartition(wanted[tp], tp.partition): pair for tp, pair in bounds.items()}
