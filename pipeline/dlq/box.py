"""The dead letters of one consumer: its topic read from beginning to end, beside what was decided about each."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline import books
from pipeline.batch import Partition
from pipeline.broker import read_retention_s
from pipeline.dlq.letters import PARKED_BOX, Decided, Letter, Letters, Origin, Selection, to_letter
from pipeline.errors import ConfigError
from pipeline.postgres import Pool, translated
from pipeline.process import Process
from pipeline.reader import read_bounds, read_records
from pipeline.registry import consumer_names, registry
from pipeline.settings import KafkaSettings
from schemas.topics import PARKED, Topic, dead_letter_topic, redrive_topic
from sql import queries

Report = Callable[[int, int], None]  # how many of how many records are done


def silent(_done: int, _total: int) -> None:
    """Reports nothing."""


@dataclass(frozen=True, slots=True)
class Box:
    """Where the dead letters of `consumer` are."""

    consumer: str
    topic: Topic
    kafka: KafkaSettings
    pool: Pool

    async def read(self, selection: Selection, report: Report = silent) -> list[Letter]:
        """The letters that are meant, without their values. Raises TransientError."""
        letters = Letters(await self._decided())
        spans = await read_bounds(self.kafka, self.topic)
        done, total = 0, sum(end - begin for begin, end in spans.values())
        async with contextlib.aclosing(read_records(self.kafka, self.topic, spans)) as chunks:
            async for records in chunks:
                for record in records:
                    letters.add(to_letter(record, self.topic.name, self.consumer))
                done += len(records)
                report(done, total)
        return letters.chosen(selection)

    async def fetch(self, letters: Sequence[Letter], at_once: int = 100) -> AsyncGenerator[list[tuple[Letter, Any]]]:
        """The letters with their records, some at a time; without those that retention took meanwhile."""
        wanted = {(letter.at.partition, letter.at.offset): letter for letter in letters}
        offsets: dict[int, list[int]] = defaultdict(list)
        for partition, offset in wanted:
            offsets[partition].append(offset)
        spans = {partition: (min(found), max(found) + 1) for partition, found in offsets.items()}
        async with contextlib.aclosing(read_records(self.kafka, self.topic, spans)) as chunks:
            async for records in chunks:
                found = [(letter, r) for r in records if (letter := wanted.get((r.partition, r.offset))) is not None]
                for start in range(0, len(found), at_once):
                    yield found[start : start + at_once]

    async def fetch_one(self, letter: Letter) -> Any:
        """Its record, or None when retention took it meanwhile."""
        async with contextlib.aclosing(self.fetch([letter])) as chunks:
            async for pairs in chunks:
                for _, record in pairs:
                    return record
        return None

    async def kept_ms(self) -> float:
        """How long the topic keeps a letter: what the broker says, else what it should be."""
        name = self.kafka.topic_prefix + self.topic.name
        kept_s = (await read_retention_s(self.kafka, [name])).get(name)
        return self.topic.retention_ms if kept_s is None else kept_s * 1000

    async def waiting(self) -> int:
        """Redriven records that the consumer has not read yet."""
        if self.consumer == PARKED_BOX:
            return 0
        topic = redrive_topic(self.consumer)
        async with translated():
            positions = await books.positions(self.pool, self.consumer)
        bounds = await read_bounds(self.kafka, topic)
        return sum(end - positions.get(Partition(topic.name, p), begin) for p, (begin, end) in bounds.items())

    async def _decided(self) -> dict[Origin, Decided]:
        async with translated():
            rows = await self.pool.fetch(queries("deadletters")["decided"], self.consumer)
        return {
            Origin(r["topic"], r["partition"], r["offset"], r["recorded_at_ms"]):
                Decided(r["dead_at_ms"], r["action"], r["id"])
            for r in rows
        }  # fmt: skip


def box_names() -> list[str]:
    """Every consumer, and the parked bodies."""
    return [*consumer_names(), PARKED_BOX]


def open_box(name: str, kafka: KafkaSettings, pool: Pool) -> Box:
    """The box of a consumer, or of the parked bodies. Raises ConfigError when there is none of that name."""
    if name == PARKED_BOX:
        return Box(name, PARKED, kafka, pool)
    if name not in consumer_names():
        raise ConfigError(f"no consumer is called {name!r}; there are: {', '.join(box_names())}")
    return Box(name, dead_letter_topic(name), kafka, pool)


def process_of(box: Box) -> Process:
    """The process whose letters these are. Raises ConfigError for parked bodies."""
    if box.consumer == PARKED_BOX:
        raise ConfigError("parked bodies belong to no consumer: `export` them, mend them and post them again")
    return registry()[box.consumer]
