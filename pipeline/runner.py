"""Runs one consumer: fetch, decode, hand over, write, commit.

Four stages overlap: while the database commits one batch, it merges the next, the one after that is copied to it, and one
more is fetched and decoded: at most four are in memory. They are merged in the order in which they were fetched, and the
order in each is fixed: dead letters acknowledged -> transaction committed -> offsets committed (later, in the background:
the progress row is the truth, Kafka's offset a hint). An outage is waited out with the batch kept; a batch that is given up
(shutdown, rebalance, a bug) rewinds the consumer to what is stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, Generic, TypeVar

from aiokafka import TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError

from pipeline import metrics
from pipeline.batch import Batch, Partition, Tally
from pipeline.broker import Publisher, require_topics
from pipeline.consumer import Consumer
from pipeline.decode import SentBackError, decode_record, spans_of
from pipeline.errors import FatalError, TransientError
from pipeline.flood import FloodGuard
from pipeline.gaps import Gaps
from pipeline.inflight import WRITERS, GivenUpError, InFlight, SupersededError, Turn
from pipeline.lag import LagMeter
from pipeline.lifecycle import background, ends_within, stop_event
from pipeline.membership import StaticId
from pipeline.pause import Pauses, Stage
from pipeline.positions import Positions, Spans
from pipeline.postgres import Pool
from pipeline.retry import MAX_BACKOFF_S, backoff_s
from pipeline.settings import Settings
from pipeline.stream import REBALANCE_TIMEOUT_S, Stream
from pipeline.suspects import Suspects
from pipeline.write import MisalignedError, Writer
from schemas.topics import dead_letter_topic, redrive_topic

log = logging.getLogger("wapipe.runner")
F = TypeVar("F")
T = TypeVar("T")

_DECODE_SLICE = 50  # records between two looks at the event loop: under 1 ms, so that the writer never waits long
_COMMIT_EVERY_S = 1.0
_LOOK_EVERY_S = 2.0
_STUCK_AFTER_S = 120.0
_WITHDRAW_S = 5.0  # a statement may wait a minute for its answer, and before it for a connection
_STOP_S = 40.0  # beside the batch in flight: that, an offset commit (5 s), leaving the group (10 s)


class Runner(Generic[F]):
    """One consumer in one process, from `run()` until the stop event. It is the Reader of its Stream."""

    def __init__(
        self, consumer: Consumer[F], settings: Settings, pool: Pool, publisher: Publisher,
        pauses: Pauses | None = None,
    ) -> None:  # fmt: skip
        own, kafka = settings.consumer, settings.kafka
        self.consumer, self._settings, self._name = consumer, settings, consumer.name
        self._topics = (*consumer.topics, redrive_topic(consumer.name))
        self._writer: Writer[F] = Writer(consumer, pool, publisher)
        self._positions = Positions(consumer.name, kafka.topic_prefix)
        self._gaps = Gaps(consumer.name, self._positions, self._writer)
        self._meter = LagMeter(consumer.name, self._topics, kafka, self._positions)
        self._pauses = Pauses(consumer.name) if pauses is None else pauses
        self._guard = FloodGuard(consumer.name, own)
        self._suspects = Suspects(consumer, pool, own.suspect_after_deaths)
        self._static_id = StaticId(own.instance_id, own.session_timeout_ms / 1000)
        names = [kafka.topic_prefix + t.name for t in self._topics]
        self._stream = Stream(kafka.topic_prefix + self._name, names, settings, self)
        self._queue: asyncio.Queue[Batch[F]] = asyncio.Queue()  # bounded by the room in flight
        self._epoch = 0  # batches of an older one are dropped
        self._in_flight = InFlight()
        self._give_up = asyncio.Event()  # what fails now is not tried again
        self._stopping = False
        self._released = asyncio.Event()
        self._assigned = False
        self._reassigned = asyncio.Event()
        self._aligned = asyncio.Event()
        self._progress_at = time.monotonic()
        self._lag = 0

    # ------------------------------------------------------------ life
    async def run(self, stop: asyncio.Event) -> None:
        """Consumes until `stop`, then drains. Raises FatalError and whatever means that the process must end."""
        loops = [self._align_loop(), self._commit_loop(), self._lag_loop(), self._stream.ended()]
        loops += (self._write_loop() for _ in range(WRITERS))
        with contextlib.ExitStack() as ends:
            try:
                async with background(*loops):
                    await self._start()
                    log.info("consumer.started", extra={"consumer": self._name})
                    await stop.wait()
                    ends.enter_context(ends_within(self._settings.consumer.shutdown_grace_s + _STOP_S))
                    await self._drain()
            finally:
                self._released.set()
                await self._stream.stop()
        log.info("consumer.stopped", extra={"consumer": self._name})

    async def _start(self) -> None:
        """Joins the group; an absent broker is waited for."""
        attempt = 0
        while not stop_event().is_set():
            try:
                await require_topics(self._settings.kafka, [*self._topics, dead_letter_topic(self._name)])
                await self._stream.start()
            except (TransientError, KafkaError, OSError) as exc:
                self._pauses.retry("start", "kafka", exc)
                attempt += 1
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop_event().wait(), backoff_s(attempt))
            else:
                break
        self._pauses.release("start")

    async def _drain(self) -> None:
        self._stopping = True
        self._aligned.set()  # whoever waits for it waits for the end now
        await self._leave(self._settings.consumer.shutdown_grace_s)

    async def _leave(self, patience_s: float) -> None:
        """Finishes the batch in flight, or gives it up when it cannot be finished now."""
        self._give_up.set()
        try:
            async with asyncio.timeout(patience_s):
                await self._in_flight.idle.wait()
        except TimeoutError:
            log.warning("batch.left_in_flight", extra={"consumer": self._name})  # the progress row fences it
        with contextlib.suppress(TransientError, TimeoutError):  # then the next process counts a death that was none
            async with asyncio.timeout(_WITHDRAW_S):
                await self._suspects.give_up()
        await self._positions.commit(self._stream.client)

    def alive(self) -> str | None:
        """None while the loop makes progress, has nothing to do, or waits on purpose."""
        if self._pauses.stops_reading or (self._assigned and self._lag == 0):
            return None
        return None if time.monotonic() - self._progress_at < _STUCK_AFTER_S else "no_progress"

    def ready(self) -> str | None:
        """None when partitions are assigned and nothing is paused."""
        if self._pauses:
            return self._pauses.answer()
        return None if self._assigned else "no_assignment"

    # ------------------------------------------------------------ fetch and decode (the stream's task)
    async def take(self, records: list[Any]) -> None:
        """See Reader."""
        await self._aligned.wait()
        if self._stopping:
            await self._released.wait()
            return
        with self._in_flight.taking():
            async with self._guarded("take"):
                batch = await self._decode(records)
                if batch is not None:
                    batch.prepared = await self._insist("prepare", partial(self._writer.prepare, batch.facts))
                    await self._in_flight.room.wait()
                    self._in_flight.handed_over()
                    self._queue.put_nowait(batch)

    async def idle(self) -> None:
        """See Reader."""
        self._pauses.release("fetch")
        if self._aligned.is_set() and not self._stopping:
            with self._in_flight.taking():
                async with self._guarded("take"):
                    await self._follow({})

    async def unfetched(self, exc: Exception) -> None:
        """See Reader."""
        self._pauses.hold("fetch", "kafka" if isinstance(exc, KafkaError) else "bug", exc)
        self._gaps.forget()
        self._positions.seek(self._stream.client)

    async def _decode(self, records: list[Any]) -> Batch[F] | None:
        """The records as a batch; None when they do not follow what was fetched before (they are fetched again)."""
        self._pauses.release("fetch")
        try:
            spans = spans_of(records)
        except SentBackError:
            self._positions.seek(self._stream.client)
            return None
        if not await self._follow(spans):
            return None
        batch: Batch[F] = Batch(self._epoch)
        batch.tallies = {
            self._positions.partition(tp): Tally(span.first, span.last + 1, span.timestamp_ms)
            for tp, span in spans.items()
        }
        records = await self._screen(records, batch)
        started = time.perf_counter()
        self._positions.fetched(spans)
        self._meter.fetched(spans)
        self._guard.fetched(batch.tallies)
        self._hold_floods()
        tallies: dict[tuple[str, int], tuple[str, Tally]] = {  # a TopicPartition is such a tuple
            tp: (partition.topic, tally) for tp, (partition, tally) in zip(spans, batch.tallies.items(), strict=True)
        }
        waited = 0.0
        for start in range(0, len(records), _DECODE_SLICE):
            for record in records[start : start + _DECODE_SLICE]:
                topic, tally = tallies[record.topic, record.partition]
                decode_record(self.consumer, record, topic, tally, batch)
            before = time.perf_counter()
            await asyncio.sleep(0)
            waited += time.perf_counter() - before
        metrics.STAGE_SECONDS.labels(self._name, "decode").observe(time.perf_counter() - started - waited)
        metrics.BATCH_ROWS.labels(self._name).observe(len(records))
        metrics.BATCH_FILL.labels(self._name).observe(len(records) / self._settings.consumer.batch_rows)
        return batch if batch.epoch == self._epoch else None

    async def _follow(self, spans: Spans) -> bool:
        """True when the batch goes on where the one before ended. Offsets that the broker does not have are passed over;
        anything else is fetched again."""
        steps = await self._gaps.find(self._stream.client, spans)
        if not steps:
            return True
        if not self._gaps.proven(self._stream.client, steps):
            return False
        if any(step.found < step.expected for step in steps.values()):
            log.error("offsets.backwards", extra={"consumer": self._name, "partitions": len(steps)})
            self._reassigned.set()  # a topic that was made anew is noticed there
            return False
        await self._in_flight.flushed.wait()
        await self._insist("prepare", partial(self._gaps.book, self._stream.client, steps))
        return True

    async def _screen(self, records: list[Any], batch: Batch[F]) -> list[Any]:
        """The first batch of a partition is announced; where a process has died it goes alone. Answers the records without
        those that are found to kill processes."""
        firsts = {partition: batch.tallies[partition].first for partition in self._suspects.fresh(batch.tallies)}
        suspected = await self._insist("prepare", partial(self._suspects.begin, firsts)) if firsts else set[Partition]()
        if self._suspects.alone:
            await self._in_flight.flushed.wait()
        if not suspected:
            return records
        named = [(self._positions.partition(TopicPartition(r.topic, r.partition)), r) for r in records]
        deadly = await self._suspects.try_out([(p, r) for p, r in named if p in suspected], batch)
        return [r for r in records if id(r) not in deadly]

    # ------------------------------------------------------------ write (our task)
    async def _write_loop(self) -> None:
        while True:
            await self._write_in_turn(await self._queue.get())

    async def _write_in_turn(self, batch: Batch[F]) -> None:
        async with self._in_flight.writing(lambda: batch.epoch == self._epoch) as turn:
            if batch.epoch == self._epoch:
                async with self._guarded("write"):
                    await self._write(batch, turn)

    async def _write(self, batch: Batch[F], turn: Turn) -> None:
        """Writes the batch however long it takes."""
        entries = await self._insist("write", partial(self._writer.store, batch, turn))
        self._progress_at = time.monotonic()
        self._positions.stored(batch.tallies)
        for partition, entry in entries.items():
            self._guard.stored(partition, entry.records, entry.dead)
        self._hold_floods()
        if self._suspects.pending:
            with contextlib.suppress(TransientError):  # then another process counts a death that was none
                await self._suspects.end(batch.tallies)

    # ------------------------------------------------------------ when it does not go well
    async def _insist(self, stage: Stage, work: Callable[[], Awaitable[T]]) -> T:
        """Repeats `work` while a dependency is away. Raises GivenUpError when the batch must be left."""
        attempt = 0
        while True:
            try:
                done = await work()
            except TransientError as exc:
                attempt += 1
                self._pauses.retry(stage, exc.dependency, exc)
                if await self._given_up(backoff_s(attempt)):
                    self._pauses.release(stage)
                    raise GivenUpError from exc
            else:
                self._pauses.release(stage)
                return done

    @contextlib.asynccontextmanager
    async def _guarded(self, stage: Stage) -> AsyncIterator[None]:
        """One batch in one stage; lets no error escape. What could not be finished is dropped and fetched again."""
        try:
            yield
            self._pauses.release(stage)
        except SupersededError:
            pass  # whoever dropped the batch before has rewound
        except GivenUpError:
            log.warning("batch.given_up", extra={"consumer": self._name, "stage": stage})
            self._rewind()
        except MisalignedError as exc:  # restored from a backup, or somebody else has stored this
            log.warning("batch.misaligned", extra={"consumer": self._name, "detail": str(exc)[:300]})
            self._positions.correct({self._positions.on_broker(p): offset for p, offset in exc.stored.items()})
            self._rewind()
        except FatalError as exc:
            self._stream.fail(exc)
        except Exception:
            log.exception("batch.unexpected", extra={"consumer": self._name, "stage": stage})
            self._pauses.hold(stage, "bug")
            await self._given_up(MAX_BACKOFF_S)
            self._rewind()

    async def _given_up(self, delay_s: float) -> bool:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._give_up.wait(), delay_s)
        return self._give_up.is_set()

    def _rewind(self) -> None:
        """Drops what is in memory; the consumer fetches again from what is stored."""
        self._epoch += 1
        self._guard.given_up()
        self._positions.rewind(self._stream.client)

    # ------------------------------------------------------------ rebalance (aiokafka's task)
    async def revoked(self) -> None:
        """See Reader. Waits for the batch in flight, so that the next owner finds nothing half done."""
        self._assigned = False
        self._aligned.clear()  # what was fetched and is not begun waits for the next assignment
        await self._leave(REBALANCE_TIMEOUT_S * 0.8)
        self._epoch += 1

    async def assigned(self, partitions: set[TopicPartition], member_id: str) -> None:
        """See Reader. Forgets what was known of the assignment before."""
        metrics.REBALANCES.labels(self._name).inc()
        self._epoch += 1
        for part in (self._positions, self._gaps, self._meter, self._guard, self._suspects):
            part.forget()
        if not self._stopping:
            self._give_up.clear()
        self._reassigned.set()
        log.info("partitions.assigned", extra={"consumer": self._name, "partitions": len(partitions)})
        self._static_id.joined(member_id)

    async def _align_loop(self) -> None:
        """After each assignment, before anything is decoded: the consumer goes to where the database stands."""
        attempt = 0
        while True:
            await self._reassigned.wait()
            self._reassigned.clear()
            try:
                await self._positions.align(self._stream.client, self._writer.begin)
            except (TransientError, IllegalStateError) as exc:
                attempt += 1
                self._pauses.retry("align", getattr(exc, "dependency", "kafka"), exc)
                await asyncio.sleep(backoff_s(attempt))
                self._reassigned.set()
            else:
                attempt = 0
                self._pauses.release("align")
                self._assigned = True
                self._progress_at = time.monotonic()
                self._aligned.set()

    # ------------------------------------------------------------ beside the flow
    async def _commit_loop(self) -> None:
        while True:
            await asyncio.sleep(_COMMIT_EVERY_S)
            self._hold_floods()
            await self._positions.commit(self._stream.client)

    async def _lag_loop(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            if self._static_id.taken:
                self._pauses.hold("member", "instance_id")
            else:
                self._pauses.release("member")
            if self._stream.client is None or not self._assigned:
                continue
            try:
                async with asyncio.timeout(5):
                    self._lag = await self._meter.measure(self._stream.client)
            except (TransientError, IllegalStateError, KafkaError, TimeoutError) as exc:
                self._pauses.hold("lag", "kafka", exc)
            else:
                self._pauses.release("lag")
            if self._lag == 0 or self._pauses.stops_reading:
                self._progress_at = time.monotonic()

    def _hold_floods(self) -> None:
        """Lets the stream fetch what the guard says, and nothing else."""
        client = self._stream.client
        if client is None:
            return
        held = {self._positions.on_broker(p) for p in self._guard.held()} & client.assignment()
        client.pause(*held - client.paused())
        client.resume(*client.paused() - held)
        if self._guard.flooded:
            self._pauses.hold("flood", "flood")
        else:
            self._pauses.release("flood")
