"""Runs a replay in this process, from its order to its books: start one, go on with one, or only rehearse it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from pipeline import books
from pipeline.batch import Batch, Partition
from pipeline.broker import Publisher, require_topics
from pipeline.consumer import Comparable, Compared, Consumer
from pipeline.deadletter import Outlet
from pipeline.errors import ConfigError, TransientError
from pipeline.fetch import Batcher
from pipeline.inflight import WRITERS, Turn
from pipeline.postgres import Pool, open_pool, translated
from pipeline.reader import open_reader
from pipeline.replay.compare import compare
from pipeline.replay.loop import Loop, Runs, Store
from pipeline.replay.orders import Hold, Order, read_order, read_ranges
from pipeline.replay.outcome import Outcome, Rehearsal, Watched
from pipeline.replay.pace import Pace
from pipeline.replay.ranges import Range, fetch_ranges
from pipeline.replay.selection import Selection
from pipeline.replay.shadow import Counted, Scratch, note_replayed
from pipeline.replay.source import Source
from pipeline.replay.spec import Spec, books_name
from pipeline.settings import Settings
from pipeline.suspects import Suspects
from pipeline.write import Writer
from schemas.topics import Topic, dead_letter_topic, redrive_topic
from sql import SCHEMA

T = TypeVar("T")
_OUTCOMES = ("records", "written", "merged", "skipped", "dead", "gap")


@dataclass(frozen=True, slots=True)
class Job:
    """What every replay needs: the consumer's maker, the event that ends it, and somebody who watches."""

    settings: Settings
    make: Callable[[Pool], Consumer[Any]]
    stop: asyncio.Event
    watched: Watched = field(default_factory=Watched)


def topics_of(consumer: Consumer[Any]) -> dict[str, Topic]:
    """What can be replayed: the consumer's topics, and the one where its dead letters are tried again."""
    return {t.name: t for t in (*consumer.topics, redrive_topic(consumer.name))}


async def describe(
    settings: Settings, make: Callable[[Pool], Consumer[Any]]
) -> tuple[dict[str, Topic], frozenset[str] | None]:
    """The topics and events of a consumer. Asks nobody."""
    async with await open_pool(settings.database, name="replay", max_size=1) as pool:
        consumer = make(pool)
        return topics_of(consumer), consumer.events


async def start(job: Job, spec: Spec) -> Outcome:
    """A new replay to its end, or until `job.stop`. Raises TransientError, ConfigError, FatalError."""
    unread = 0
    async with _pool(job) as pool, _client(job, spec, job.make(pool)) as client:
        ranges = await fetch_ranges(client, job.settings.kafka, spec, _topics(spec, job.make(pool)))
        if spec.shadow:
            _require_comparable(job.make(pool))
            ranges, unread = await _stored_by_live(pool, spec, ranges)
        if not ranges:
            return Outcome(spec.consumer, "nothing", unread=unread)
        hold = Hold(job.settings.database)
        try:
            await hold.create(spec, ranges)
            outcome = await _Sitting(job, hold, spec, ranges, client).run(fresh=True)
        finally:
            await hold.close()
    return replace(outcome, unread=unread)


async def resume(job: Job, replay_id: int, rate_per_s: float | None) -> Outcome:
    """Goes on where its progress rows stand. Raises ConfigError when it is done or runs elsewhere, TransientError."""
    async with _pool(job) as pool:
        order, ranges = await read_order(pool, replay_id), await read_ranges(pool, replay_id)
        died = order.shown_state == "dead"
        await _require_resumable(job, order)
        spec = order.spec if rate_per_s is None else replace(order.spec, rate_per_s=rate_per_s)
        hold = Hold(job.settings.database)
        try:
            await hold.resume(order)
            async with _client(job, spec, job.make(pool)) as client:
                return await _Sitting(job, hold, spec, ranges, client).run(fresh=False, died=died)
        finally:
            await hold.close()


async def rehearse(job: Job, spec: Spec) -> Rehearsal:
    """Reads and decodes, and writes nothing anywhere. Raises TransientError."""
    async with _pool(job) as pool:
        consumer = job.make(pool)
        async with _client(job, spec, consumer) as client:
            ranges = await fetch_ranges(client, job.settings.kafka, spec, _topics(spec, consumer))
            found = Rehearsal(spec.consumer, ranges)
            source = _source(client, job, spec, ranges, {r.partition: r.first for r in ranges})
            loop = _loop(job, spec, consumer, source, prepare=_prepare_nothing, store=found.take)
            job.watched.loop, job.watched.phase, job.watched.total = loop, "decoding", sum(r.records for r in ranges)
            found.complete = await loop.run()
    return found


async def _prepare_nothing(_: list[Any]) -> None:
    return None


class _Sitting:
    """One process' work on one replay that it holds."""

    def __init__(self, job: Job, hold: Hold, spec: Spec, ranges: list[Range], client: Any) -> None:
        self._job, self._hold, self._spec, self._ranges, self._client = job, hold, spec, ranges, client
        self._scratch = Scratch(job.settings.database, hold.id) if spec.shadow else None
        self._counted = Counted()
        self._compared: tuple[Compared, ...] = ()
        self._outcome = Outcome(spec.consumer, "failed", hold.id, total=sum(r.records for r in ranges))
        job.watched.id, job.watched.total = hold.id, self._outcome.total

    async def run(self, *, fresh: bool, died: bool = False) -> Outcome:
        """Everything, with the row of the replay told how it ended. `died`: a record may have killed its process."""
        started = time.monotonic()
        try:
            if self._scratch is not None and fresh:
                self._job.watched.phase = "preparing the scratch schema"
                await self._scratch.create()
            await self._read(died)
            if self._scratch is not None and self._outcome.state == "done":
                self._job.watched.phase = "comparing"
                tables = await compare(self._job.settings.database, self._scratch.schema, self._compared)
                self._outcome.tables = tables
            self._outcome.elapsed_s = round(time.monotonic() - started, 3)
            await self._finish(None)
        except Exception as exc:
            with contextlib.suppress(TransientError):
                await self._finish(str(exc))
            raise
        finally:
            await self._clear_up()
        return self._outcome

    async def _clear_up(self) -> None:
        if self._scratch is None or self._spec.keep:
            return
        try:
            await self._scratch.drop()
        except TransientError:
            self._outcome.scratch = self._scratch.schema  # left over, and said so

    async def _read(self, died: bool) -> None:
        job, watched = self._job, self._job.watched
        schema = self._scratch.schema if self._scratch else SCHEMA
        async with (
            await open_pool(job.settings.database, name="replay", max_size=WRITERS + 1, schema=schema) as pool,
            self._outlet() as outlet,
        ):
            consumer, name = job.make(pool), books_name(self._spec.consumer, self._hold.id)
            if self._scratch is not None:
                self._compared = _require_comparable(consumer)
            writer: Writer[Any] = Writer(consumer, pool, outlet, books_name=name)
            stored = await writer.positions()
            at = {r.partition: stored.get(r.partition, r.first) for r in self._ranges}
            screen = Suspects(consumer, pool, 1).try_out if died else None
            loop = _loop(
                job, self._spec, consumer, _source(self._client, job, self._spec, self._ranges, at),
                prepare=writer.prepare, store=self._storing(writer, pool), screen=screen,
            )  # fmt: skip
            watched.before = sum(at[r.partition] - r.first for r in self._ranges)
            watched.loop, watched.phase = loop, "replaying"
            complete = await _beside(loop.run(), self._hold.watch(lambda: watched.passed, job.stop))
            await self._balance(pool, name, complete)

    def _storing(self, writer: Writer[Any], pool: Pool) -> Store[Any]:
        async def store(batch: Batch[Any], runs: Runs, turn: Turn) -> None:
            if not self._hold.held.is_set():
                raise TransientError("postgres", "the replay's lock is lost")
            if self._scratch is not None:
                await note_replayed(pool, runs)
            await writer.store(batch, turn)

        return store

    @contextlib.asynccontextmanager
    async def _outlet(self) -> AsyncIterator[Outlet]:
        if self._scratch is not None:
            yield self._counted
            return
        async with Publisher(self._job.settings.kafka) as publisher:
            yield publisher

    async def _balance(self, pool: Pool, name: str, complete: bool) -> None:
        """The books of the replay; when it is complete, they must cover every range from end to end."""
        async with translated():
            accounts, skipped = await books.snapshot(pool, name)
        outcome, at = self._outcome, {(a.topic, a.partition): a for a in accounts}
        outcome.books = {column: sum(getattr(a, column) for a in accounts) for column in _OUTCOMES}
        outcome.skipped_events = {s.event: s.records for s in skipped}
        outcome.difference = books.difference(accounts, skipped)
        for r in self._ranges if complete else ():
            account = at.get(r.partition)
            covered = max(0, min(account.next_offset, r.end) - max(account.first_offset, r.first)) if account else 0
            outcome.difference += r.records - covered
        outcome.passed, outcome.before = self._job.watched.passed, self._job.watched.before
        outcome.dead_letters, outcome.dead_places = dict(self._counted.reasons), self._counted.places
        outcome.state = "stopped" if not complete else "failed" if outcome.difference else "done"

    async def _finish(self, error: str | None) -> None:
        outcome = self._outcome
        outcome.scratch = self._scratch.schema if self._scratch and self._spec.keep else None
        outcome.state = "failed" if error else outcome.state
        await self._hold.finish(outcome.state, self._job.watched.passed, error, outcome.as_dict())


async def _require_resumable(job: Job, order: Order) -> None:
    """Raises ConfigError when there is nothing to go on with."""
    if order.state == "done":
        raise ConfigError(f"replay {order.id} is done. Start a new one: wapipe replay {order.consumer} …")
    if order.spec.shadow and not await Scratch(job.settings.database, order.id).exists():
        raise ConfigError(f"the scratch schema of replay {order.id} was dropped when it ended: start a new one")


def _require_comparable(consumer: Consumer[Any]) -> tuple[Compared, ...]:
    if not isinstance(consumer, Comparable):
        raise ConfigError(f"{consumer.name} does not say which tables a shadow replay compares")
    return consumer.compared


def _topics(spec: Spec, consumer: Consumer[Any]) -> list[Topic]:
    known = topics_of(consumer)
    return [known[name] for name in spec.topics]


@contextlib.asynccontextmanager
async def _pool(job: Job) -> AsyncIterator[Pool]:
    """Of the live schema; connects when it is used."""
    async with await open_pool(job.settings.database, name="replay", max_size=1) as pool:
        yield pool


@contextlib.asynccontextmanager
async def _client(job: Job, spec: Spec, consumer: Consumer[Any]) -> AsyncIterator[Any]:
    """A reader of the topics, which are there, as is the one for dead letters."""
    await require_topics(job.settings.kafka, [*_topics(spec, consumer), dead_letter_topic(consumer.name)])
    async with open_reader(job.settings.kafka) as client:
        yield client


async def _stored_by_live(pool: Pool, spec: Spec, ranges: Sequence[Range]) -> tuple[list[Range], int]:
    """The ranges as far as live has stored them: more cannot be compared. And how many records that leaves out."""
    async with translated():
        live = await books.positions(pool, spec.consumer)
    cut = [replace(r, end=max(r.first, min(r.end, live.get(r.partition, r.first)))) for r in ranges]
    return [r for r in cut if r.records], sum(r.records for r in ranges) - sum(r.records for r in cut)


def _source(client: Any, job: Job, spec: Spec, ranges: Sequence[Range], at: Mapping[Partition, int]) -> Source:
    own = job.settings.consumer
    rows = own.batch_rows if spec.rate_per_s is None else min(own.batch_rows, max(1, int(spec.rate_per_s)))
    batcher = Batcher(rows, own.batch_bytes, 0.0)
    return Source(client, job.settings.kafka.topic_prefix, at, {r.partition: r.end for r in ranges}, batcher)


def _loop(job: Job, spec: Spec, consumer: Consumer[Any], source: Source, **parts: Any) -> Loop[Any]:
    pace = Pace(spec.rate_per_s) if spec.rate_per_s is not None else None
    selection = Selection(spec) if spec.filtered else None
    return Loop(consumer, source, job.stop, selection=selection, pace=pace, **parts)


async def _beside(work: Coroutine[Any, Any, T], guard: Coroutine[Any, Any, None]) -> T:
    """Runs `work`; when `guard` ends first, it ends with the guard's error."""
    working, guarding = asyncio.create_task(work), asyncio.create_task(guard)
    try:
        await asyncio.wait({working, guarding}, return_when=asyncio.FIRST_COMPLETED)
        if guarding.done():
            guarding.result()
        return await working
    finally:
        for task in (working, guarding):
            task.cancel()
        await asyncio.gather(working, guarding, return_exceptions=True)
