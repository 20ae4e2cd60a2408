"""Works on requests: claims the next one, fetches it, and says how it ended. Several at a time in one process.

A lease is renewed while a request is worked on; a process that dies leaves its requests to others when the lease ends, and
they go on at the cursor.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any

from pipeline import metrics
from pipeline.broker import Publisher
from pipeline.errors import ConfigError, TransientError
from pipeline.lifecycle import background
from pipeline.retry import backoff_s
from pipeline.sections_waha import SyncSettings
from pipeline.sync.brake import Brake
from pipeline.sync.envelopes import Fetched, Wrapper
from pipeline.sync.history import History, LostError
from pipeline.sync.people import People
from pipeline.sync.state import Claimed, SyncState
from pipeline.waha import Waha, WahaServers, split_session
from pipeline.waha.answers import SessionInfo
from pipeline.waha.errors import (
    EngineError,
    NotThereError,
    RefusedError,
    SessionNotReadyError,
    StoreDisabledError,
    TooLargeError,
    WahaAwayError,
)
from schemas.topics import BACKFILL

log = logging.getLogger("wapipe.sync")

_IDLE_S = 2.0  # between two looks for something to do; a new request wakes at once
_INFO_S = 60.0  # how long the state of a session is believed
_PUBLISH_DEADLINE_S = 30.0
_PUBLISH_RECORDS = 500  # awaited together, as the spool's drain does
_NOT_READY_S = 30.0
_LONGEST_WAIT_S = 300.0
MOST_FAILURES = 8  # in a row, of WAHA's engine at one request
_NEVER = (StoreDisabledError, RefusedError, TooLargeError, NotThereError, ConfigError)


class SyncWorker:
    """One process' share of the work."""

    def __init__(
        self, state: SyncState, servers: WahaServers, publisher: Publisher, brake: Brake, settings: SyncSettings
    ) -> None:
        self._state, self._servers, self._publisher, self._brake = state, servers, publisher, brake
        self._settings = settings
        self._new_work = asyncio.Event()
        self._infos: dict[str, tuple[float, SessionInfo, str]] = {}

    def wake(self) -> None:
        """There is a new request."""
        self._new_work.set()

    async def run(self) -> None:
        """Works until it is cancelled; then gives its requests back."""
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._settings.walkers):
                    group.create_task(self._loop())
        finally:
            with contextlib.suppress(TransientError, TimeoutError):
                async with asyncio.timeout(5):
                    await self._state.release_all()

    async def _loop(self) -> None:
        attempt = 0
        while True:
            try:
                await self._brake.passed(0)
                worked = await self.work_once()
            except TransientError as exc:  # the database, or the broker: the lease ends, or the claim is taken again
                attempt += 1
                log.warning("sync.interrupted", extra={"dependency": exc.dependency, "detail": exc.detail[:200]})
                await asyncio.sleep(backoff_s(attempt))
                continue
            attempt = 0
            if not worked:
                self._new_work.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._new_work.wait(), _IDLE_S)

    async def work_once(self) -> bool:
        """One request, until it ends or has to wait; False when there is none."""
        claimed = await self._state.claim()
        if claimed is None:
            await self._gather()  # whoever ended the last chat of a request may have died before he said so
            return False
        log.info("sync.begun", extra={"request": claimed.id, "session": claimed.session, "reason": claimed.reason})
        outcome = await self._settled(claimed)
        metrics.SYNC_REQUESTS.labels(claimed.reason, outcome).inc()
        log.info("sync.ended", extra={"request": claimed.id, "session": claimed.session, "outcome": outcome})
        if outcome in ("completed", "failed", "spread"):
            await self._gather(claimed.session)
        return True

    async def _gather(self, session: str | None = None) -> None:
        """Ends what was spread over chats that are all done."""
        for ended in await self._state.gather(session):
            metrics.SYNC_REQUESTS.labels(ended.reason, ended.status).inc()
            log.info("sync.ended", extra={"request": ended.id, "session": ended.session, "outcome": ended.status})

    async def _settled(self, claimed: Claimed) -> str:
        """Fetches the request and writes down what came of it."""
        pages = [claimed.page_rows or self._settings.batch_size]
        try:
            if not await self._fetch(claimed, pages):
                return "spread"
        except LostError:
            return "lost"
        except Exception as exc:  # one request that meets a bug must not end the process, and with it all others
            if isinstance(exc, TransientError) and not isinstance(exc, WahaAwayError):
                raise
            return await self._ended_badly(claimed, exc, pages[0])
        return "completed" if await self._state.complete(claimed) else "lost"

    async def _ended_badly(self, claimed: Claimed, exc: Exception, page_rows: int) -> str:
        """It fails for good, waits for the session or the server, or counts one more failure."""
        if isinstance(exc, _NEVER):
            await self._state.fail(claimed, str(exc))
            return "failed"
        if isinstance(exc, EngineError) or not isinstance(exc, WahaAwayError):
            return await self._failed_once(claimed, exc, page_rows)
        delay_s = max(exc.retry_after_s, backoff_s(6))
        if isinstance(exc, SessionNotReadyError):
            self._infos.pop(claimed.session, None)
            delay_s = _NOT_READY_S
        await self._state.wait(claimed, str(exc), delay_s, failed=False, page_rows=page_rows)
        return "waiting"

    async def _failed_once(self, claimed: Claimed, exc: Exception, page_rows: int) -> str:
        if not isinstance(exc, EngineError):
            log.error("sync.unexpected", extra={"request": claimed.id}, exc_info=exc)
        if claimed.attempts + 1 >= MOST_FAILURES:
            await self._state.fail(claimed, f"{MOST_FAILURES} times in a row: {type(exc).__name__}: {exc}")
            return "failed"
        delay_s = min(_LONGEST_WAIT_S, 2.0 * 2**claimed.attempts)
        await self._state.wait(claimed, f"{type(exc).__name__}: {exc}", delay_s, failed=True, page_rows=page_rows)
        return "waiting"

    async def _fetch(self, claimed: Claimed, pages: list[int]) -> bool:
        waha, wrapper = await self._wrapper(claimed.session)
        if claimed.kind == "people":
            async with _unwrapped(self._keep(claimed)):
                await People(waha, wrapper, self._publish).fetch(claimed.chat)
            return True
        history = History(claimed, self._state, waha, wrapper, self._publish)
        try:
            async with _unwrapped(self._keep(claimed)):
                return await history.fetch(self._settings.batch_size)
        finally:
            pages[0] = history.page_rows or pages[0]

    async def _keep(self, claimed: Claimed) -> None:
        """Renews the lease. Raises LostError."""
        while True:
            await asyncio.sleep(self._settings.lease_s / 3)
            with contextlib.suppress(TransientError):
                if not await self._state.renew(claimed):
                    raise LostError("the lease is somebody else's now")

    async def _wrapper(self, session: str) -> tuple[Waha, Wrapper]:
        """The server and the session as it is. Raises SessionNotReadyError when it does not work."""
        waha, name = self._servers.of(session)
        known = self._infos.get(session)
        if known is None or known[0] < time.monotonic():
            info = await waha.session(name)
            if info is None:
                raise NotThereError(f"WAHA has no session {name!r}")
            if info.status != "WORKING":
                raise SessionNotReadyError(f"the session is {info.status}", info.status)
            version = (await waha.version()).version
            known = self._infos[session] = (time.monotonic() + _INFO_S, info, version)
        return waha, Wrapper(split_session(session)[0], known[1], known[2])

    async def _publish(self, records: Sequence[Fetched]) -> None:
        await self._brake.passed(len(records))
        for start in range(0, len(records), _PUBLISH_RECORDS):
            part = records[start : start + _PUBLISH_RECORDS]
            refused = await self._publisher.publish_all(BACKFILL.name, part, deadline_s=_PUBLISH_DEADLINE_S)
            for exc in refused:
                log.error("sync.record_refused", extra={"reason": exc.reason})


@contextlib.asynccontextmanager
async def _unwrapped(beside: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """`background`, with the error itself in place of a group of one."""
    try:
        async with background(beside):
            yield
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None
