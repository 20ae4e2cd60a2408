"""The ingress' way to the broker, with the spool behind it: what is not acknowledged in time is synced to local disk.

The policy only; files and groups are pipeline.spool's. While the broker does not acknowledge, requests go to the spool
at once and the drain alone asks for the broker, with the oldest record; its first acknowledgement opens the direct
way again, beside the draining. That is allowed because no rule depends on order between records.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Protocol

from pipeline import metrics
from pipeline.broker import Headers
from pipeline.errors import TransientError
from pipeline.settings import Settings
from pipeline.spool.drain import drain
from pipeline.spool.record import Record, encode
from pipeline.spool.slot import Slot, adopt, claim
from pipeline.spool.writer import Writer

log = logging.getLogger("wapipe.spool")

# Longer than the silence after which the publisher replaces its producer (15 s): a record that asks for the broker is
# in one producer once, not once a try, and the producer's end is what fails it.
_DRAIN_DEADLINE_S = 30.0
_PROBE_EVERY_S = 0.3
_LOOK_FOR_LEFTOVERS_S = 5.0


class Sink(Protocol):
    """Where the webhook puts events: pipeline.broker.Publisher is one."""

    @property
    def ready(self) -> bool:
        """True when events go straight to the broker."""
        ...

    async def publish(self, topic: str, key: bytes, value: bytes, headers: Headers, *, deadline_s: float) -> None:
        """Returns when the record is durable. Raises TransientError (try again) or PoisonError (too large)."""
        ...


class SpoolingPublisher:
    """A publisher whose records are durable when `publish` returns: acknowledged by the broker, or synced to disk.

    A record that was timed out and spooled may also arrive through the first send: consumers deduplicate.
    """

    def __init__(self, publisher: Sink, slot: Slot, *, max_bytes: int, root: Path, prefix: str) -> None:
        self._publisher, self._slot = publisher, slot
        self._writer = Writer(slot, max_bytes)
        self._adopt = partial(adopt, root, prefix)
        self._adopted: Slot | None = None
        self._away = False  # until something is acknowledged again
        self._settled = False  # what earlier processes left is counted
        self._work = asyncio.Event()

    @property
    def records(self) -> int:
        """Events that are in the spool and not acknowledged by the broker."""
        return self._writer.records + self._slot.records + (self._adopted.records if self._adopted else 0)

    @property
    def size_bytes(self) -> int:
        """The spool on disk, adopted directories included."""
        return self._writer.size_bytes + self._slot.size_bytes + (self._adopted.size_bytes if self._adopted else 0)

    @property
    def oldest_s(self) -> float:
        """Age of the oldest event in the spool; 0 when there is none."""
        slots = [self._slot, self._adopted] if self._adopted else [self._slot]
        known = [s.oldest_ms for slot in slots for s in list(slot.segments) if s.oldest_ms is not None]
        oldest = min([*known, *([self._writer.oldest_ms] if self._writer.oldest_ms else [])], default=None)
        return 0.0 if oldest is None else max(0.0, time.time() - oldest / 1000)

    @property
    def draining(self) -> bool:
        """True when the broker is there and the spool is not empty yet."""
        return self._publisher.ready and not self.ready

    @property
    def ready(self) -> bool:
        """True when the broker is there and the spool is empty."""
        return self._publisher.ready and self._settled and not self.size_bytes

    async def publish(self, topic: str, key: bytes, value: bytes, headers: Headers, *, deadline_s: float) -> None:
        """Returns when the record is durable.

        Raises PoisonError (too large for the broker), or TransientError: no broker, and the spool is full or broken.
        """
        if not (self._away and self.records):
            try:
                await self._publisher.publish(topic, key, value, headers, deadline_s=deadline_s)
            except TransientError as exc:
                self._lost_the_broker(exc)
            else:
                return
        now_ms = time.time_ns() // 1_000_000
        await self._writer.put(encode(Record(topic, key, headers, value, now_ms)), now_ms)
        self._work.set()

    async def run(self) -> None:
        """Drains for ever: what this process spooled, and what processes that are gone have left."""
        await asyncio.to_thread(self._slot.recover)
        while True:
            try:
                await self._drain()
            except TransientError as exc:
                self._lost_the_broker(exc)
                await asyncio.sleep(_PROBE_EVERY_S)
                continue
            if self._adopted is None and not await self._find_leftovers():
                self._settled = True
                await self._wait_for_work()

    async def close(self) -> None:
        """Writes what waits and gives the directories back; what is in them is drained by the next process."""
        await self._writer.close()
        self._slot.close()
        if self._adopted is not None:
            self._adopted.close()

    async def _drain(self) -> None:
        while self._slot.segments or self._writer.records:
            if not self._slot.segments:
                await self._writer.seal()
            await drain(self._slot, self._send, self._acknowledged)
        if self._adopted is not None:
            await drain(self._adopted, self._send, self._acknowledged)
            self._adopted.close()
            log.info("spool.adopted_drained", extra={"slot": self._adopted.path.name})
            self._adopted = None

    async def _find_leftovers(self) -> bool:
        slot = await asyncio.to_thread(self._adopt)
        if slot is None:
            return False
        self._adopted = slot
        await asyncio.to_thread(slot.recover)
        log.warning("spool.adopted", extra={"slot": slot.path.name, "records": slot.records})
        return True

    async def _wait_for_work(self) -> None:
        self._work.clear()
        if not self._writer.records:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_FOR_LEFTOVERS_S):
                    await self._work.wait()

    async def _send(self, record: Record) -> None:
        await self._publisher.publish(
            record.topic, record.key, record.value, record.headers, deadline_s=_DRAIN_DEADLINE_S
        )

    def _acknowledged(self, _count: int) -> None:
        if self._away:
            self._away = False
            log.info("spool.broker_is_back", extra={"records": self.records})

    def _lost_the_broker(self, exc: TransientError) -> None:
        if not self._away:
            self._away = True
            log.warning("spool.in_use", extra={"detail": exc.detail})


@contextlib.asynccontextmanager
async def open_spool(settings: Settings, publisher: Sink) -> AsyncIterator[Sink]:
    """`publisher` with the spool behind it, or itself where there is to be none. Raises ConfigError."""
    metrics.SPOOL_LIMIT_BYTES.set(settings.spool.max_bytes)
    if not settings.spool.max_bytes:
        yield publisher
        return
    root, prefix = settings.spool_folder, settings.kafka.topic_prefix
    slot = await asyncio.to_thread(claim, root, prefix)
    spool = SpoolingPublisher(publisher, slot, max_bytes=settings.spool.max_bytes, root=root, prefix=prefix)
    metrics.SPOOL_BYTES.set_function(lambda: spool.size_bytes)
    metrics.SPOOL_RECORDS.set_function(lambda: spool.records)
    metrics.SPOOL_OLDEST_SECONDS.set_function(lambda: spool.oldest_s)
    log.info("spool.opened", extra={"slot": str(slot.path)})
    try:
        async with asyncio.TaskGroup() as group:
            draining = group.create_task(spool.run(), name="spool-drain")
            try:
                yield spool
            finally:
                draining.cancel()
    finally:
        await spool.close()
