"""Finds the record that kills every process which decodes it: without this it would be read again for ever.

The first batch of a partition after an assignment is announced in table `suspects` and withdrawn once it is stored, so a
healthy process pays two small statements a partition and assignment. Where a process has died, the next one takes that batch
alone, so that a death is known to be its own. When processes have died at one offset again and again, its batch is decoded
in a child first, and what kills the child is dead-lettered. An operator's kill -9 only costs such a trial.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from pipeline.batch import Batch, Dead, Partition, Place, read_headers
from pipeline.consumer import Consumer, is_wanted
from pipeline.errors import PoisonError
from pipeline.postgres import Pool, translated
from pipeline.trial import find_deadly
from sql import queries

log = logging.getLogger("wapipe.suspects")

_TRIAL_S = 20.0  # for one record; the largest take a tenth of a second
_TRIAL_BYTES = 1024**3  # beside what the process has; the largest record needs a tenth of it


class Suspects:
    """Of one consumer process. Every method but `forget` and `fresh` raises TransientError while the database is away."""

    def __init__(self, consumer: Consumer[Any], pool: Pool, after_deaths: int) -> None:
        self._consumer, self._pool, self._after_deaths = consumer, pool, after_deaths
        self._holder = uuid.uuid4()
        self._proven: set[Partition] = set()
        self._accused: set[Partition] = set()  # of the pending ones, those where a process has died
        self.pending: set[Partition] = set()  # announced, not stored yet

    def forget(self) -> None:
        """A new assignment: every partition has its first batch before it."""
        self._proven.clear()
        self.pending.clear()
        self._accused.clear()

    @property
    def alone(self) -> bool:
        """A batch in which a process may have died is not stored yet: no other is to be in memory beside it."""
        return bool(self._accused)

    def fresh(self, partitions: Iterable[Partition]) -> list[Partition]:
        """Those of which nothing was announced since the assignment: they must be before they are decoded."""
        return [p for p in partitions if p not in self._proven and p not in self.pending]

    async def begin(self, firsts: Mapping[Partition, int]) -> set[Partition]:
        """Announces that these are about to be decoded from these offsets on; answers those that need a trial."""
        at = [p.topic for p in firsts], [p.partition for p in firsts], list(firsts.values())
        async with translated():
            rows = await self._pool.fetch(queries("suspects")["begin"], self._consumer.name, self._holder, *at)
        deaths = {Partition(r["topic"], r["partition"]): r["deaths"] for r in rows}
        self.pending |= deaths.keys()
        self._accused |= {p for p, count in deaths.items() if count}
        return {p for p, count in deaths.items() if count >= self._after_deaths}

    async def end(self, stored: Iterable[Partition]) -> None:
        """Records of these are stored."""
        self._proven |= set(stored)
        self._accused -= self._proven
        await self._withdraw(self.pending & self._proven)

    async def give_up(self) -> None:
        """This process is well, but leaves its partitions to others."""
        await self._withdraw(set(self.pending))

    async def try_out(self, records: Sequence[tuple[Partition, Any]], batch: Batch[Any]) -> set[int]:
        """Decodes records in a child, and puts those that kill it into the batch as dead; answers their ids (of `id`)."""
        places = [Place(p.topic, p.partition, r.offset) for p, r in records]
        log.warning("suspects.on_trial", extra={"consumer": self._consumer.name, "records": len(places)})
        try:
            deadly = await find_deadly(
                partial(_decode, self._consumer), records, seconds=_TRIAL_S, memory_bytes=_TRIAL_BYTES
            )
        except OSError:  # no process or pipe to be had; the next one to come here tries again
            log.exception("suspects.no_trial", extra={"consumer": self._consumer.name})
            return set()
        error = PoisonError("kills_process", f"{self._after_deaths} processes and a child that decoded it alone died")
        for index in deadly:
            partition, record = records[index]
            batch.dead.append(Dead(places[index], record, error))
            batch.tallies[partition].records += 1
        return {id(records[index][1]) for index in deadly}

    async def _withdraw(self, partitions: set[Partition]) -> None:
        if not partitions:
            return
        at = [p.topic for p in partitions], [p.partition for p in partitions]
        async with translated():
            await self._pool.execute(queries("suspects")["end"], self._consumer.name, self._holder, *at)
        self.pending -= partitions


def _decode(consumer: Consumer[Any], record: tuple[Partition, Any]) -> None:
    event = read_headers(record[1], record[0].topic)
    if is_wanted(consumer, event.event):
        consumer.decode(event)
