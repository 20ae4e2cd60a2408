"""Slows down a partition that is nearly all dead letters: a flood is more often our mistake than the senders'.

A flooded partition is fetched one batch at a time, with growing pauses between them, until a batch is good again. It is
never stopped for ever: what is bad is dead-lettered and what is good is stored, only late enough for somebody to look.
Knows no Kafka; the runner keeps it told and does what it says.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from pipeline import metrics
from pipeline.batch import Partition
from pipeline.settings import ConsumerSettings

log = logging.getLogger("wapipe.flood")
_FIRST_PAUSE_S = 1.0


@dataclass(slots=True)
class _Watch:
    """One partition: its stored batches within the window, and once it is flooded its pause."""

    batches: deque[tuple[float, int, int]] = field(default_factory=deque)  # when, records, dead
    records: int = 0
    dead: int = 0
    pause_s: float = 0.0  # 0: not flooded
    until: float = 0.0
    probing: bool = False

    def add(self, now: float, records: int, dead: int, window_s: float) -> None:
        self.batches.append((now, records, dead))
        self.records += records
        self.dead += dead
        while self.batches[0][0] < now - window_s:
            _, old_records, old_dead = self.batches.popleft()
            self.records -= old_records
            self.dead -= old_dead


class FloodGuard:
    """Of one consumer process."""

    def __init__(
        self, consumer: str, settings: ConsumerSettings, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._name, self._settings, self._clock = consumer, settings, clock
        self._watches: dict[Partition, _Watch] = {}

    def stored(self, partition: Partition, records: int, dead: int) -> None:
        """A batch of `records` was stored, `dead` of them in the dead-letter topic."""
        own, now = self._settings, self._clock()
        watch = self._watches.setdefault(partition, _Watch())
        bad = dead * 100 >= own.flood_percent * records
        if watch.pause_s:
            if watch.probing:  # what was in flight when the flood was noticed says nothing new
                self._judge(partition, watch, bad=bad)
            return
        watch.add(now, records, dead, own.flood_window_s)
        if own.flood_pause_s and watch.dead >= own.flood_records and (
            watch.dead * 100 >= own.flood_percent * watch.records
        ):  # fmt: skip
            watch.pause_s = min(_FIRST_PAUSE_S, own.flood_pause_s)
            watch.until = now + watch.pause_s
            log.error("partition.flooded", extra=self._told(partition, records=watch.records, dead=watch.dead))
        self._show()

    def fetched(self, partitions: Iterable[Partition]) -> None:
        """Records of these were fetched; of a flooded one they are a probe, and nothing follows before it is stored."""
        for partition in partitions:
            watch = self._watches.get(partition)
            if watch is not None and watch.pause_s and self._clock() >= watch.until:
                watch.probing = True

    def given_up(self) -> None:
        """What was in flight will not be stored: probes are repeated after their pause."""
        for watch in self._watches.values():
            if watch.probing:
                watch.probing, watch.until = False, self._clock() + watch.pause_s

    def forget(self) -> None:
        """A new assignment: whoever has a partition now notices by itself."""
        self._watches.clear()
        self._show()

    def held(self) -> set[Partition]:
        """What must not be fetched now."""
        now = self._clock()
        return {p for p, w in self._watches.items() if w.pause_s and (w.probing or now < w.until)}

    @property
    def flooded(self) -> int:
        """How many partitions are slowed down."""
        return sum(1 for w in self._watches.values() if w.pause_s)

    def _judge(self, partition: Partition, watch: _Watch, *, bad: bool) -> None:
        if bad:
            watch.pause_s = min(watch.pause_s * 2, self._settings.flood_pause_s)
            watch.probing, watch.until = False, self._clock() + watch.pause_s
            log.warning("partition.still_flooded", extra=self._told(partition, pause_s=watch.pause_s))
        else:
            self._watches[partition] = _Watch()
            log.info("partition.good_again", extra=self._told(partition))
        self._show()

    def _told(self, partition: Partition, **more: float) -> dict[str, object]:
        return {"consumer": self._name, "topic": partition.topic, "partition": partition.partition, **more}

    def _show(self) -> None:
        metrics.FLOODED.labels(self._name).set(self.flooded)
