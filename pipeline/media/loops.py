"""The downloads of one process: jobs are taken as slots come free, leases renewed, and what is away is waited for.

One slow file holds one slot. Files for which WAHA has to be asked take half of the slots at most, so that they never stand
in the way of files that are there and will be deleted.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

from pipeline import metrics
from pipeline.errors import TransientError
from pipeline.lifecycle import background
from pipeline.media.jobs import Job, Jobs
from pipeline.media.limits import Away, Memory
from pipeline.media.objects import TEMPORARY, LeaseLostError
from pipeline.media.work import Worker
from pipeline.pause import Pauses
from pipeline.s3 import Bucket, MissingError
from pipeline.settings import MediaSettings

log = logging.getLogger("wapipe.media")

_LOOK_S = 0.5  # between two looks for jobs when there are none: batches wake us earlier
_UNKNOWN_EVERY_S = 60.0
_STORE, _DATABASE = "s3", "postgres"
_PROBE, _PROBE_DATA = f"{TEMPORARY}probe", bytes(4096)  # a full disk answers everything but a write


class Loops:
    """See module. `wake` is set by whoever has made jobs."""

    def __init__(
        self, worker: Worker, jobs: Jobs, bucket: Bucket, sources: list[str], settings: MediaSettings,
        *, pauses: Pauses,
    ) -> None:  # fmt: skip
        self._worker, self._jobs, self._bucket, self._sources = worker, jobs, bucket, sources
        self._settings = settings
        self._memory = Memory(settings.in_flight_bytes)
        self._away, self._pauses = Away(), pauses
        self._running: dict[asyncio.Task[None], Job] = {}
        self._free = asyncio.Event()
        self._turn = 0
        self._unknown_at = 0.0
        self.wake = asyncio.Event()

    async def run(self, stop: asyncio.Event, *, grace_s: float) -> None:
        """Downloads until `stop`, then finishes what is under way within `grace_s`; the rest is taken up by others."""
        async with background(self._renew_leases()):
            stopping = asyncio.create_task(stop.wait())
            try:
                while not stop.is_set():
                    if not await self._take_all():
                        await self._idle(stopping)
                if self._running:
                    await asyncio.wait(self._running, timeout=grace_s)
            finally:
                stopping.cancel()
                await self._drop(list(self._running))
                with contextlib.suppress(TransientError):  # then their leases run out
                    await self._jobs.release()

    async def _take_all(self) -> bool:
        """Fills the free slots. False when there was nothing to do, or nothing could be done."""
        taken = False
        try:
            await self._fail_unknown()
            if not await self._store_is_there():
                return False
            self._turn += 1
            for n in range(len(self._sources)):
                taken |= await self._take(self._sources[(self._turn + n) % len(self._sources)])
        except TransientError as exc:
            self._failed(exc, _DATABASE)
            return False
        finally:
            self._release()
        self._pauses.release("jobs")
        return taken

    async def _take(self, source: str) -> bool:
        mine = [job for job in self._running.values() if job.source == source]
        limit = min(self._settings.concurrency - len(self._running), self._settings.server_concurrency - len(mine))
        if self._away.trying(source):
            limit = min(limit, 1 - len(mine))
        if limit <= 0 or self._away.blocked(source):
            return False
        asking = sum(not job.is_there for job in self._running.values())
        jobs = await self._jobs.take(source, limit, max(0, (self._settings.concurrency + 1) // 2 - asking))
        for job in jobs:
            task = asyncio.create_task(self._work(job))
            self._running[task] = job
            task.add_done_callback(self._done)
        metrics.MEDIA_RUNNING.set(len(self._running))
        return bool(jobs)

    async def _work(self, job: Job) -> None:
        """One job; nothing escapes but a cancellation."""
        try:
            async with self._memory.reserved(job.claimed_bytes):
                await self._worker.run(job)
            self._away.answered(job.source)
            self._away.answered(_STORE)
        except LeaseLostError:
            metrics.MEDIA_LEASES_LOST.inc()
        except TransientError as exc:
            self._failed(exc, job.source)
        except Exception:
            log.exception("media.unexpected", extra={"source": job.source})

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task, None)
        self._free.set()
        metrics.MEDIA_RUNNING.set(len(self._running))

    async def _idle(self, stopping: asyncio.Task[bool]) -> None:
        """Until a slot comes free, somebody makes jobs, or it is time to look."""
        full = len(self._running) >= self._settings.concurrency
        waits = [asyncio.create_task(self._free.wait())]
        if not full:
            waits.append(asyncio.create_task(self.wake.wait()))
        await asyncio.wait([*waits, stopping], timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        self._free.clear()
        self.wake.clear()

    async def _store_is_there(self) -> bool:
        """While the store takes no object no job is taken: WAHA would be asked for files that have nowhere to go."""
        if self._away.blocked(_STORE):
            return False
        if self._away.trying(_STORE):
            try:
                await self._bucket.put(_PROBE, _PROBE_DATA, "application/octet-stream")
                await self._bucket.delete(_PROBE)
            except (TransientError, MissingError):
                self._away.failed(_STORE)
                return False
            self._away.probed(_STORE)
        return True

    async def _fail_unknown(self) -> None:
        if time.monotonic() >= self._unknown_at:
            failed = await self._jobs.fail_unknown(self._sources)
            metrics.MEDIA_OUTCOMES.labels("failed", "unknown_source").inc(failed)
            self._unknown_at = time.monotonic() + _UNKNOWN_EVERY_S

    async def _renew_leases(self) -> None:
        """A third of a lease apart, so that two may fail. A job that is no longer ours is dropped at once."""
        while True:
            await asyncio.sleep(self._jobs.lease_s / 3)
            held = dict(self._running)
            if not held:
                continue
            with contextlib.suppress(TransientError):
                kept = await self._jobs.renew([job.place for job in held.values()])
                lost = [task for task, job in held.items() if job.place not in kept and not task.done()]
                metrics.MEDIA_LEASES_LOST.inc(len(lost))
                await self._drop(lost)

    async def _drop(self, tasks: list[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _failed(self, exc: TransientError, source: str) -> None:
        """Says in /ready what is waited for: the database at once, others when they failed too often."""
        metrics.RETRIES.labels("media", exc.dependency).inc()
        if exc.dependency == _DATABASE:
            self._pauses.hold("jobs", _DATABASE, exc)
            return
        who = _STORE if exc.dependency == _STORE else source
        self._away.failed(who)
        if self._away.trying(who):
            self._pauses.hold("store" if who == _STORE else "download", exc.dependency, exc)

    def _release(self) -> None:
        if not self._away.trying(_STORE):
            self._pauses.release("store")
        if not any(self._away.trying(source) for source in self._sources):
            self._pauses.release("download")
