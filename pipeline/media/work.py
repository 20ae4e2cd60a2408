"""One job from its lease to its end: fetched, stored, or given back with the reason why not yet.

Every error of the parts ends here as an outcome. What is away is told to the loops by TransientError, after the job was
given back uncounted.
"""

from __future__ import annotations

import logging
import random
import time
from dataclasses import dataclass

from pipeline import metrics
from pipeline.errors import TransientError
from pipeline.media.clamd import ClamdScanner
from pipeline.media.decoders import decoded_types
from pipeline.media.fetch import BrokenFileError, GoneError
from pipeline.media.jobs import Again, End, Job, Jobs
from pipeline.media.kinds import THUMBNAIL_TYPES, served_type, sniff
from pipeline.media.objects import Objects, SweptError, object_key
from pipeline.media.origins import OriginRefusedError
from pipeline.media.receive import Received, TooLargeError, received
from pipeline.media.scan import CommandScanner, QuarantinedError, Scanner, UnscannableError
from pipeline.media.sources import NotNowError, Place, Sources
from pipeline.s3 import Bucket, ChangedError, MissingError
from pipeline.settings import MediaSettings

log = logging.getLogger("wapipe.media")

_MAX_BROKEN = 4  # so often a file may come damaged
# So many processes died, or lost their lease, over it. Not fewer: whatever else a process had in hand when it died is
# counted too, and with 5 files were given up when processes were killed every few seconds.
_MAX_ABANDONED = 10
_AWAY_S = 1.0  # the loops wait longer; this only keeps the job out of the next look
_TOO_SOON_S = 30.0
_MAX_WAIT_S = 12 * 3600.0
_GIVE_UP_S = 28 * 24 * 3600.0  # WhatsApp keeps files for two to four weeks


@dataclass(frozen=True, slots=True)
class Ended:
    """The job is over."""

    state: End
    reason: str
    error: str | None = None


class Worker:
    """Does jobs. `run` returns when the job is stored, ended or given back."""

    def __init__(self, jobs: Jobs, objects: Objects, sources: Sources, bucket: Bucket, settings: MediaSettings) -> None:
        self._jobs, self._objects, self._sources, self._bucket = jobs, objects, sources, bucket
        self._settings, self._scanner = settings, scanner_of(settings)
        self._shown = THUMBNAIL_TYPES | decoded_types() if settings.thumbnails else frozenset[str]()

    async def run(self, job: Job) -> None:
        """Raises TransientError when something is away (the job is given back if it can be), LeaseLostError."""
        if job.left_s is not None:
            metrics.MEDIA_LEFT_SECONDS.observe(max(0.0, job.left_s))
        started = time.perf_counter()
        try:
            outcome = await self._attempt(job)
        except TransientError as exc:
            if exc.dependency != "postgres":
                await self._jobs.again(job, Again(_AWAY_S, str(exc), counted=False))
            raise
        metrics.MEDIA_SECONDS.observe(time.perf_counter() - started)
        if isinstance(outcome, Again):
            metrics.MEDIA_OUTCOMES.labels("again", "").inc()
            await self._jobs.again(job, outcome)
        elif isinstance(outcome, Ended):
            metrics.MEDIA_OUTCOMES.labels(outcome.state, outcome.reason).inc()
            log.warning("media.ended", extra={"state": outcome.state, "reason": outcome.reason, "source": job.source})
            await self._jobs.end(job, outcome.state, outcome.reason, outcome.error)
        else:
            metrics.MEDIA_OUTCOMES.labels("stored", "").inc()

    async def _attempt(self, job: Job) -> Again | Ended | None:
        unwanted = self._unwanted(job)
        if unwanted is not None:
            return unwanted
        try:
            return await self._fetch(job, self._settings.cap_bytes(job.type))
        except (TooLargeError, QuarantinedError, UnscannableError, OriginRefusedError) as exc:
            return _end_of(exc)
        except NotNowError as exc:
            wait_s = exc.after_s + _TOO_SOON_S * random.random()  # noqa: S311 - they shall not come back together
            return Again(wait_s, "the session cannot be asked now", counted=False)
        except (BrokenFileError, ChangedError, MissingError) as exc:
            return self._broken(job, exc)

    def _unwanted(self, job: Job) -> Ended | None:
        cap = self._settings.cap_bytes(job.type)
        if job.abandoned >= _MAX_ABANDONED:
            return Ended("failed", "abandoned")
        if cap == 0:
            return Ended("skipped", "type_off")
        if job.age_s > _GIVE_UP_S:
            return Ended("expired", "not_available")
        if job.claimed_bytes is not None and job.claimed_bytes > cap:
            return Ended("skipped", "too_large")
        return None

    async def _fetch(self, job: Job, cap: int) -> Again | Ended | None:
        """From the known place; from a new one if the file is not there."""
        place = self._sources.place(job)
        if place is not None:
            try:
                await self._take(job, place, cap)
                return None
            except GoneError:
                log.info("media.gone", extra={"source": job.source, "left_s": job.left_s})
        place = await self._sources.ask(job)
        if place is None:
            return self._not_there(job, "WAHA does not have the file")
        life = self._settings.files_lifetime_s or None
        if not await self._jobs.moved(job, place.url, place.bucket, place.key, life):
            return None  # somebody else's by now
        metrics.MEDIA_ASKED.inc()
        try:
            await self._take(job, place, cap)
        except GoneError:
            return self._not_there(job, "WAHA named a place where the file is not")
        return None

    async def _take(self, job: Job, place: Place, cap: int) -> None:
        async with (
            self._sources.open(job, place) as body,
            received(
                body, self._bucket, cap_bytes=cap, expected_sha256=job.claimed_sha256, scanner=self._scanner
            ) as file,
        ):
            await self._store(job, file)

    async def _store(self, job: Job, file: Received) -> None:
        """Until no sweep comes in between."""
        kind = sniff(file.head)
        mimetype, extension = kind or (None, None)
        wants_thumbnail = mimetype in self._shown
        while True:
            claim = await self._objects.claim(file.sha256, file.size, mimetype, extension)
            if not claim.stored:
                await file.put(object_key(file.sha256), served_type(mimetype))
            try:
                await self._objects.store(job, claim, thumbnail=wants_thumbnail)
            except SweptError:
                continue
            metrics.MEDIA_BYTES.inc(file.size)
            if claim.stored:
                metrics.MEDIA_DEDUPED_BYTES.inc(file.size)
            return

    def _not_there(self, job: Job, why: str) -> Again | Ended:
        if job.asked + 1 >= self._settings.ask_times:
            return Ended("expired", "not_available", why)
        wait_s = min(_MAX_WAIT_S, self._settings.ask_backoff_s * 5.0**job.asked)
        return Again(wait_s, why, asked=True, forget=True)

    def _broken(self, job: Job, exc: Exception) -> Again | Ended:
        """Once more from the same place, then WAHA is asked for the file again."""
        reason = exc.reason if isinstance(exc, BrokenFileError) else "changed"
        broken = job.attempts - job.asked - job.abandoned  # a process that died says nothing of the file
        if broken >= _MAX_BROKEN:
            return Ended("failed", reason, str(exc))
        return Again(min(2.0**broken, max(0.2, (job.left_s or 30.0) / 4)), str(exc), forget=broken >= 2)


def scanner_of(settings: MediaSettings) -> Scanner | None:
    """The scanner that is configured."""
    if settings.clamd is not None:
        return ClamdScanner(settings.clamd, timeout_s=settings.scan_timeout_s)
    if settings.scan_command is not None:
        return CommandScanner(settings.scan_command, timeout_s=settings.scan_timeout_s)
    return None


def _end_of(exc: TooLargeError | QuarantinedError | UnscannableError | OriginRefusedError) -> Ended:
    if isinstance(exc, OriginRefusedError):
        return Ended("failed", exc.reason)
    if isinstance(exc, UnscannableError):
        return Ended("failed", "not_scanned", str(exc))
    if isinstance(exc, QuarantinedError):
        return Ended("skipped", "quarantined", str(exc) or None)
    return Ended("skipped", "too_large")
