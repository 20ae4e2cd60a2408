"""The loop of a replay: read, decode, write, through the consumer's own code and the same writer as live.

Stages overlap as in the runner: while the database works on some batches, one after the other, the next is read and decoded. An
outage is waited out with the batches kept. It stops between batches; the progress rows say how far it came.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

from pipeline.batch import Batch, Partition, Tally
from pipeline.consumer import Consumer
from pipeline.decode import decode_record
from pipeline.errors import FatalError, TransientError
from pipeline.inflight import WRITERS, SupersededError, Turn
from pipeline.replay.pace import Pace
from pipeline.replay.selection import FILTERED, Selection
from pipeline.replay.source import Source, Stretch
from pipeline.retry import backoff_s
from pipeline.write import MisalignedError

log = logging.getLogger("wapipe.replay")
F = TypeVar("F")
T = TypeVar("T")
Runs = dict[Partition, list[tuple[int, int]]]  # offsets [first, next) of selected records
Store = Callable[[Batch[F], Runs, Turn], Awaitable[None]]
Screen = Callable[[Sequence[tuple[Partition, Any]], Batch[Any]], Awaitable[set[int]]]

_DECODE_SLICE = 50  # as in the runner
_SCREENED_BATCHES = WRITERS + 2  # so many may have been in memory when the process died, and one stored just before
_SILENCE_S = 10.0  # nothing read for so long although there is something: the broker is away


class StoppedError(Exception):
    """Somebody wants the replay to end before its end; the batch in hand is dropped."""


class Loop(Generic[F]):
    """One replay in this process. `passed` (offsets stored so far) and `away` (who is waited for) are for those who watch.

    `prepare` and `store` are the two things done with a batch: a Writer's, or what a dry run does instead. `screen`
    (pipeline.suspects) tries the first batches in a child: for a replay whose process died.
    """

    def __init__(
        self,
        consumer: Consumer[F],
        source: Source,
        stop: asyncio.Event,
        *,
        prepare: Callable[[list[F]], Awaitable[Any]],
        store: Store[F],
        selection: Selection | None = None,
        pace: Pace | None = None,
        screen: Screen | None = None,
    ) -> None:
        self._consumer, self._source, self._stop = consumer, source, stop
        self._prepare, self._store, self._selection, self._pace = prepare, store, selection, pace
        self._screen, self._unscreened = screen, _SCREENED_BATCHES
        self._heard_at = time.monotonic()
        self._dropped = False  # a batch was not stored, and none after it will be
        self.passed = 0
        self.away: set[str] = set()

    async def run(self) -> bool:
        """Reads to the end of all ranges; False when it was stopped before. Raises FatalError and what is a bug."""
        storing: deque[asyncio.Task[None]] = deque()
        before: asyncio.Event | None = None
        try:
            while not self._source.finished:
                if self._stop.is_set():
                    raise StoppedError
                batch, runs = await self._fetch()
                if len(storing) == WRITERS:
                    await storing.popleft()
                turn = Turn(before, lambda: not self._dropped)
                before = turn.passed
                storing.append(asyncio.create_task(self._put(batch, runs, turn)))
            while storing:
                await storing.popleft()
        except StoppedError:
            for end in await asyncio.gather(*storing, return_exceptions=True):
                if isinstance(end, BaseException) and not isinstance(end, StoppedError):
                    raise end from None
            return False
        finally:
            for task in storing:
                task.cancel()
            await asyncio.gather(*storing, return_exceptions=True)
        return True

    async def _fetch(self) -> tuple[Batch[F], Runs]:
        """The first stage of a batch; it may hold no record."""
        stretches = await self._insist(self._source.read)
        self._listen(bool(stretches))
        batch, runs = await self._decode(stretches)
        if self._pace is not None and batch.tallies:
            selected = sum(t.records - t.skipped[FILTERED] for t in batch.tallies.values())
            await self._wait(self._pace.delay_s(selected))
        batch.prepared = await self._insist(partial(self._prepare, batch.facts))
        return batch, runs

    def _listen(self, heard: bool) -> None:
        """aiokafka is silent while its broker is away."""
        if heard:
            self._heard_at = time.monotonic()
            self.away.discard("kafka")
        elif time.monotonic() - self._heard_at > _SILENCE_S:
            self._miss("kafka", "it sends nothing")

    async def _decode(self, stretches: Mapping[Partition, Stretch]) -> tuple[Batch[F], Runs]:
        batch: Batch[F] = Batch(0)
        runs: Runs = {}
        chosen: list[tuple[Partition, Any]] = []
        for partition, stretch in stretches.items():
            tally = batch.tallies[partition] = Tally(stretch.first, stretch.next)
            runs[partition] = [(stretch.first, stretch.next)]
            records = stretch.records
            if self._selection is not None:
                records = [r for r in records if self._selection.wants(r)]
                runs[partition] = _runs_of(records)
                tally.records = tally.skipped[FILTERED] = len(stretch.records) - len(records)
            chosen += [(partition, r) for r in records]
        if self._screen is not None and chosen and self._unscreened:
            self._unscreened -= 1
            deadly = await self._screen(chosen, batch)
            chosen = [(p, r) for p, r in chosen if id(r) not in deadly]
        for start in range(0, len(chosen), _DECODE_SLICE):
            for partition, record in chosen[start : start + _DECODE_SLICE]:
                decode_record(self._consumer, record, partition.topic, batch.tallies[partition], batch)
            await asyncio.sleep(0)
        return batch, runs

    async def _put(self, batch: Batch[F], runs: Runs, turn: Turn) -> None:
        """The other stages. What is not stored takes all that come after it with it."""
        try:
            if batch.tallies:
                await self._insist(partial(self._store, batch, runs, turn))
            await turn.before()
        except SupersededError:
            raise StoppedError from None
        except MisalignedError as exc:
            self._dropped = True
            raise FatalError(f"another process goes on with this replay: {exc}") from exc
        except BaseException:
            self._dropped = True
            raise
        finally:
            turn.pass_on()
        self.passed += sum(t.next - t.first for t in batch.tallies.values())

    async def _insist(self, work: Callable[[], Awaitable[T]]) -> T:
        """Repeats `work` while a dependency is away. Raises StoppedError."""
        attempt, missed = 0, ""
        while True:
            try:
                done = await work()
            except TransientError as exc:
                attempt, missed = attempt + 1, exc.dependency
                self._miss(missed, exc.detail)
                await self._wait(backoff_s(attempt))
            else:
                if missed:
                    self.away.discard(missed)
                    log.info("replay.resumed", extra={"dependency": missed})
                return done

    def _miss(self, dependency: str, detail: str) -> None:
        if dependency not in self.away:
            log.warning("replay.paused", extra={"dependency": dependency, "detail": detail})
            self.away.add(dependency)

    async def _wait(self, delay_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), delay_s)
        if self._stop.is_set():
            raise StoppedError


def _runs_of(records: list[Any]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for record in records:
        if runs and runs[-1][1] == record.offset:
            runs[-1] = (runs[-1][0], record.offset + 1)
        else:
            runs.append((record.offset, record.offset + 1))
    return runs
