"""Runs one consumer: fetch, decode, write, dead-letter, commit. The only file that knows FastStream.

Two stages overlap: while the database works on one batch, the next is fetched and decoded; at most three batches are
in memory. The order is fixed: dead letters acknowledged -> transaction committed -> offsets committed (later, in the
background: the progress row is the truth, Kafka's offset a hint). An outage is waited out with the batch kept; a
batch that is given up (shutdown, rebalance, a bug) rewinds the consumer to what is stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Generic, TypeVar

from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import IllegalStateError, KafkaError
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from faststream.kafka import Topic as StreamTopic
from faststream.kafka.message import KafkaAckableMessage
from faststream.security import BaseSecurity, SASLPlaintext, SASLScram256, SASLScram512

from pipeline import metrics
from pipeline.batch import Batch, Tally
from pipeline.broker import Publisher, client_options, log_bounds, require_topics
from pipeline.consumer import Consumer
from pipeline.decode import decode_record, spans_of
from pipeline.errors import FatalError, TransientError
from pipeline.lag import LagMeter
from pipeline.lifecycle import background, stop_event
from pipeline.positions import Positions
from pipeline.postgres import Pool
from pipeline.retry import MAX_BACKOFF_S, backoff_s
from pipeline.settings import Settings
from pipeline.write import MisalignedError, Writer
from schemas.topics import dead_letter_topic, redrive_topic

log = logging.getLogger("wapipe.runner")
F = TypeVar("F")
T = TypeVar("T")

_DECODE_SLICE = 50  # records between two looks at the event loop: under 1 ms, so that the writer never waits long
_REBALANCE_TIMEOUT_MS = 30_000  # below aiokafka's request timeout of 40 s, with which it waits for JoinGroup
_MAX_POLL_INTERVAL_MS = 24 * 3600 * 1000  # an outage is waited out inside the handler
_COMMIT_EVERY_S = 1.0
_LAG_EVERY_S = 2.0
_STUCK_AFTER_S = 120.0


class GivenUpError(Exception):
    """The batch is left on purpose: shutdown, or its partitions go to somebody else. Nothing of it is committed."""


class _Sticky(StickyPartitionAssignor):  # type: ignore[misc]
    """A subclass of our own: the assignor keeps its memory in class attributes (aiokafka issue 1175)."""


class Runner(ConsumerRebalanceListener, Generic[F]):  # type: ignore[misc]
    """One consumer in one process, from `run()` until the stop event."""

    def __init__(self, consumer: Consumer[F], settings: Settings, pool: Pool, publisher: Publisher) -> None:
        self.consumer, self._settings = consumer, settings
        self._name, self._prefix = consumer.name, settings.kafka.topic_prefix
        self._writer: Writer[F] = Writer(consumer, pool, publisher)
        self._queue: asyncio.Queue[Batch[F]] = asyncio.Queue(maxsize=1)
        self._positions = Positions(consumer.name, settings.kafka.topic_prefix)
        self._topics = (*consumer.topics, redrive_topic(consumer.name))
        self._meter = LagMeter(consumer.name, self._topics, settings.kafka, self._positions)
        self._epoch = 0  # batches of an older one are dropped
        self._busy = False
        self._idle = asyncio.Event()
        self._give_up = asyncio.Event()
        self._stopping = False
        self._released = asyncio.Event()
        self._paused: str | None = None
        self._assigned = False
        self._reassigned = asyncio.Event()
        self._aligned = asyncio.Event()
        self._progress_at = time.monotonic()
        self._lag = 0
        self._broker_away = False  # seen by the lag loop: without records no batch waits, so nothing is paused
        self._idle.set()
        self._broker, self._subscriber = self._make_subscriber()

    # ------------------------------------------------------------ life
    async def run(self, stop: asyncio.Event) -> None:
        """Consumes until `stop`, then drains. Raises FatalError and whatever means that the process must end."""
        async with background(self._align_loop(), self._write_loop(), self._commit_loop(), self._lag_loop()):
            await self._start()
            log.info("consumer.started", extra={"consumer": self._name})
            await stop.wait()
            await self._drain()
        log.info("consumer.stopped", extra={"consumer": self._name})

    async def _start(self) -> None:
        """Joins the group; an absent broker is waited for."""
        topics = [*self._topics, dead_letter_topic(self._name)]
        attempt = 0
        while not stop_event().is_set():
            try:
                await require_topics(self._settings.kafka, topics)
                await self._broker.start()
                return
            except (TransientError, KafkaError, OSError) as exc:
                self._pause("kafka", exc)
                with contextlib.suppress(KafkaError, OSError):
                    await self._broker.stop()
                attempt += 1
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop_event().wait(), backoff_s(attempt))

    async def _drain(self) -> None:
        self._stopping = True
        if self._paused:
            self._give_up.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.consumer.shutdown_grace_s):
                await self._idle.wait()
        self._give_up.set()
        await self._positions.commit(self._client)
        self._released.set()
        with contextlib.suppress(KafkaError, OSError, TimeoutError):
            async with asyncio.timeout(10):
                await self._broker.stop()

    def alive(self) -> str | None:
        """None while the loop makes progress, has nothing to do, or waits on purpose."""
        since = time.monotonic() - self._progress_at
        if self._paused or self._lag == 0 or since < _STUCK_AFTER_S:
            return None
        return "no_progress"

    def ready(self) -> str | None:
        """None when partitions are assigned, the broker answers and nothing is paused."""
        if not self._assigned:
            return "no_assignment"
        if self._paused:
            return f"{self._paused}_away"
        return "kafka_away" if self._broker_away else None

    # ------------------------------------------------------------ fetch and decode (FastStream's task)
    def _make_subscriber(self) -> tuple[KafkaBroker, Any]:
        own = self._settings.consumer
        options = client_options(self._settings.kafka)
        backoff = options.pop("retry_backoff_ms")
        broker = KafkaBroker(
            options["bootstrap_servers"],
            security=_security(options),
            retry_backoff_ms=backoff,
            graceful_timeout=5.0,
            allow_auto_create_topics=False,
            apply_types=False,
            log_level=logging.DEBUG,
            logger=logging.getLogger("wapipe.faststream"),
        )
        subscriber = broker.subscriber(
            *[StreamTopic(self._prefix + t.name, declare=False) for t in self._topics],
            group_id=self._prefix + self._name,
            group_instance_id=own.instance_id,
            batch=True,
            max_records=own.batch_rows,
            batch_timeout_ms=50,
            ack_policy=AckPolicy.MANUAL,
            auto_offset_reset="earliest",
            listener=self,
            partition_assignment_strategy=(_Sticky,),
            session_timeout_ms=own.session_timeout_ms,
            heartbeat_interval_ms=3000,
            rebalance_timeout_ms=_REBALANCE_TIMEOUT_MS,
            max_poll_interval_ms=_MAX_POLL_INTERVAL_MS,
            fetch_max_bytes=own.fetch_max_bytes,
            fetch_max_wait_ms=100,
            parser=self._parse,
            decoder=_as_it_is,
        )
        subscriber(self._take)
        return broker, subscriber

    async def _parse(self, records: tuple[Any, ...]) -> KafkaAckableMessage:
        """Replaces FastStream's parser: that one decodes headers first, and one bad header loses the batch."""
        return KafkaAckableMessage(
            raw_message=records, body=b"", message_id="-", correlation_id="-", consumer=self._subscriber.consumer
        )

    async def _take(self, message: Any) -> None:
        """FastStream's handler: decodes what was fetched and hands it to the writer. Lets no exception escape."""
        if self._stopping:
            await self._released.wait()
            return
        try:
            await self._aligned.wait()
            batch = await self._decode(message.raw_message)
            if batch is not None:
                self._idle.clear()
                batch.prepared = await self._insist(partial(self._writer.prepare, batch.facts))
                await self._queue.put(batch)
        except asyncio.CancelledError:
            raise
        except GivenUpError:
            self._rewind()
        except Exception:  # the runner is where a bug must not lose data
            log.exception("batch.unexpected", extra={"consumer": self._name, "stage": "decode"})
            await asyncio.sleep(1)
            self._rewind()
        finally:
            self._settle()

    async def _decode(self, records: tuple[Any, ...]) -> Batch[F] | None:
        """The records as a batch; None when they do not follow what was fetched before (they are fetched again)."""
        started = time.perf_counter()
        batch: Batch[F] = Batch(self._epoch)
        spans = spans_of(records)
        if not await self._positions.follows(self._client, spans):
            self._rewind()
            return None
        self._positions.fetched(spans)
        self._meter.fetched(spans)
        self._progress_at = time.monotonic()
        tallies: dict[tuple[str, int], tuple[str, Tally]] = {}  # a TopicPartition is such a tuple
        for tp, span in spans.items():
            partition = self._positions.partition(tp)
            tally = batch.tallies[partition] = Tally(span.first, span.last + 1)
            tallies[tp] = (partition.topic, tally)
        waited = 0.0
        for start in range(0, len(records), _DECODE_SLICE):
            for record in records[start : start + _DECODE_SLICE]:
                decode_record(self.consumer, record, *tallies[record.topic, record.partition], batch)
            before = time.perf_counter()
            await asyncio.sleep(0)
            waited += time.perf_counter() - before
        metrics.STAGE_SECONDS.labels(self._name, "decode").observe(time.perf_counter() - started - waited)
        metrics.BATCH_ROWS.labels(self._name).observe(len(records))
        return batch if batch.epoch == self._epoch else None

    # ------------------------------------------------------------ write (our task)
    async def _write_loop(self) -> None:
        while True:
            self._settle()
            batch = await self._queue.get()
            self._idle.clear()
            self._busy = True
            try:
                if batch.epoch == self._epoch:
                    await self._write(batch)
            finally:
                self._busy = False

    def _settle(self) -> None:
        """Says that no batch is in flight, if that is so: rebalances and the drain wait for it."""
        if self._queue.empty() and not self._busy:
            self._idle.set()

    async def _write(self, batch: Batch[F]) -> None:
        """Writes the batch however long it takes, or gives it up and rewinds."""
        try:
            await self._insist(partial(self._writer.store, batch))
        except GivenUpError:
            log.warning("batch.given_up", extra={"consumer": self._name, "records": len(batch)})
            self._rewind()
        except MisalignedError as exc:
            await self._go_back(exc)
        except FatalError:
            raise
        except Exception:  # a bug: keep the data, be loud, do not spin
            log.exception("batch.unexpected", extra={"consumer": self._name, "stage": "write"})
            self._pause("bug", None)
            await self._given_up(MAX_BACKOFF_S)
            self._rewind()
        else:
            self._progress_at = time.monotonic()
            self._positions.stored(batch.tallies)

    async def _insist(self, work: Callable[[], Awaitable[T]]) -> T:
        """Repeats `work` while a dependency is away. Raises GivenUpError when the batch must be left."""
        attempt = 0
        while True:
            try:
                done = await work()
            except TransientError as exc:
                attempt += 1
                self._pause(exc.dependency, exc)
                if await self._given_up(backoff_s(attempt)):
                    raise GivenUpError from exc
            else:
                self._resume()
                return done

    async def _go_back(self, found: MisalignedError) -> None:
        """Fetches again from where the database stands. It may be behind the broker's committed offset (restored from
        a backup), ahead of it (a commit was lost), or retention was faster: only that is a gap, and it is counted."""
        at = {self._positions.on_broker(p): offset for p, offset in found.stored.items()}
        bounds: dict[TopicPartition, tuple[int, int]] = {}
        try:
            bounds = await log_bounds(self._client, list(at))
        except TransientError as exc:
            self._pause("kafka", exc)
        for tp, (begin, _) in bounds.items():
            if begin > at[tp]:
                lost = {"topic": tp.topic, "partition": tp.partition, "records": begin - at[tp]}
                log.error("offsets.lost", extra={"consumer": self._name, **lost})
                self._writer.allow_gap(self._positions.partition(tp), begin)
                at[tp] = begin
        self._positions.correct(at)
        await self._given_up(0.2)
        self._rewind()

    async def _given_up(self, delay_s: float) -> bool:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._give_up.wait(), delay_s)
        return self._give_up.is_set()

    def _rewind(self) -> None:
        """Drops what is in memory; the consumer fetches again from what is stored."""
        self._epoch += 1
        self._positions.rewind(self._client)

    @property
    def _client(self) -> Any:
        """aiokafka's consumer; None before the start."""
        return self._subscriber.consumer

    # ------------------------------------------------------------ rebalance (aiokafka's task)
    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Waits for the batch in flight, so that the next owner finds nothing half done."""
        self._assigned = False
        if self._paused:
            self._give_up.set()
        try:
            async with asyncio.timeout(_REBALANCE_TIMEOUT_MS / 1000 * 0.8):
                await self._idle.wait()
        except TimeoutError:
            log.warning("rebalance.batch_in_flight", extra={"consumer": self._name})  # the progress row fences it
        self._epoch += 1
        await self._positions.commit(self._client)

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Forgets the positions of the assignment before."""
        metrics.REBALANCES.labels(self._name).inc()
        self._epoch += 1
        self._positions.forget()
        self._meter.forget()
        if not self._stopping:
            self._give_up.clear()
        self._aligned.clear()
        self._reassigned.set()
        log.info("partitions.assigned", extra={"consumer": self._name, "partitions": len(assigned)})

    async def _align_loop(self) -> None:
        """After each assignment, before anything is decoded: the consumer goes to where the database stands."""
        attempt = 0
        while True:
            await self._reassigned.wait()
            self._reassigned.clear()
            try:
                await self._align()
                attempt = 0
            except (TransientError, IllegalStateError) as exc:
                attempt += 1
                self._pause(getattr(exc, "dependency", "kafka"), exc)
                await asyncio.sleep(backoff_s(attempt))
                self._reassigned.set()

    async def _align(self) -> None:
        await self._positions.align(self._client, await self._writer.positions())
        self._assigned = True
        self._resume()
        self._aligned.set()

    # ------------------------------------------------------------ beside the flow
    async def _commit_loop(self) -> None:
        while True:
            await asyncio.sleep(_COMMIT_EVERY_S)
            await self._positions.commit(self._client)

    async def _lag_loop(self) -> None:
        while True:
            await asyncio.sleep(_LAG_EVERY_S)
            if self._client is None or not self._assigned:
                continue
            try:
                async with asyncio.timeout(5):
                    self._lag = await self._meter.measure(self._client)
                self._broker_away = False
            except IllegalStateError:  # the assignment changed meanwhile
                continue
            except (TransientError, KafkaError, TimeoutError):
                self._broker_away = True
            if self._lag == 0 or self._broker_away:
                self._progress_at = time.monotonic()

    def _pause(self, reason: str, exc: Exception | None) -> None:
        if self._paused not in (None, reason):
            metrics.PAUSED.labels(self._name, self._paused).set(0)
        if self._paused != reason:
            log.warning("consumer.paused", extra={"consumer": self._name, "reason": reason, "detail": str(exc)[:300]})
        self._paused = reason
        metrics.PAUSED.labels(self._name, reason).set(1)
        metrics.RETRIES.labels(self._name, reason).inc()

    def _resume(self) -> None:
        if self._paused is None:
            return
        log.info("consumer.resumed", extra={"consumer": self._name, "reason": self._paused})
        metrics.PAUSED.labels(self._name, self._paused).set(0)
        self._paused = None
        self._progress_at = time.monotonic()


def _security(options: dict[str, Any]) -> BaseSecurity | None:
    """FastStream's words for the client options that concern security."""
    protocol, tls = options["security_protocol"], options.get("ssl_context")
    if not protocol.startswith("SASL"):
        return BaseSecurity(ssl_context=tls) if tls else None
    kinds = {"PLAIN": SASLPlaintext, "SCRAM-SHA-256": SASLScram256, "SCRAM-SHA-512": SASLScram512}
    return kinds[options["sasl_mechanism"]](
        options["sasl_plain_username"], options["sasl_plain_password"], ssl_context=tls, use_ssl=tls is not None
    )


async def _as_it_is(message: Any) -> Any:
    return message
