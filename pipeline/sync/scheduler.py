"""Asks for history by itself: a new session's past, look-backs, what gaps say is missing, people now and then.

Every sync process has one; the one that holds an advisory lock works, the others wait for it. Asking twice does no harm.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline import metrics
from pipeline.broker import Publisher
from pipeline.errors import ConfigError, TransientError, WapipeError
from pipeline.postgres import Pool, connect_directly, translated
from pipeline.retry import backoff_s
from pipeline.sections_waha import SyncSettings
from pipeline.settings import DatabaseSettings
from pipeline.sync.requests import publish_requests
from pipeline.sync.watchdog import Watchdog
from pipeline.waha import WahaServers
from schemas.ids import qualify_session
from schemas.sync import SyncRequest, make_request
from schemas.topics import BACKFILL, MESSAGE
from sql import queries

log = logging.getLogger("wapipe.sync")

_LOCK = 0x7761_7379_6E63  # "wasync" in ASCII: any constant number will do
_TRY_LOCK_S = 10.0
_LONGEST_PAUSE_S = 15.0
_DAY_S = 86_400
_JITTER = 0.1


@dataclass(frozen=True, slots=True)
class Asked:
    """What a session was asked for last: times in seconds of the epoch, None for never."""

    busy: bool
    busy_people: bool
    until_s: int | None
    asked_s: int | None
    deep_s: int | None
    people_s: int | None


def due_requests(session: str, asked: Asked, now_s: int, settings: SyncSettings, jitter: float) -> list[SyncRequest]:
    """What the session should be asked for now. Pure. `jitter` is 0..1: sessions do not come due together."""
    depth_s = settings.lookback_days * _DAY_S
    stretched = 1 + _JITTER * jitter
    due: list[SyncRequest] = []
    if asked.asked_s is None or asked.until_s is None:
        due.append(make_request(session, "initial", now_s - depth_s, now_s))
    elif not asked.busy and now_s - asked.asked_s >= settings.interval_ms / 1000 * stretched:
        since_s = max(asked.until_s - settings.overlap_s, now_s - depth_s)
        if now_s - (asked.deep_s or 0) >= _DAY_S * stretched:
            since_s = now_s - depth_s
        due.append(make_request(session, "periodic", min(since_s, now_s), now_s))
    if not asked.busy_people and now_s - (asked.people_s or 0) >= settings.people_interval_s * stretched:
        due.append(make_request(session, "periodic", now_s, now_s, kind="people"))
    return due


class Scheduler:
    """Of one process."""

    def __init__(
        self, pool: Pool, database: DatabaseSettings, servers: WahaServers, publisher: Publisher, settings: SyncSettings
    ) -> None:
        self._pool, self._database, self._servers, self._publisher = pool, database, servers, publisher
        self._settings = settings
        self._watchdog = Watchdog(pool, restart=settings.restart_deaf_sessions)
        self._jitter: dict[str, float] = {}

    async def run(self) -> None:
        """Never returns. Another process' lock is waited for; with its connection a lock goes."""
        attempt = 0
        while True:
            try:
                await self._hold_lock_and_work()
                attempt = 0
            except TransientError as exc:
                attempt += 1
                log.warning("sync.scheduler_waits", extra={"dependency": exc.dependency, "detail": exc.detail[:200]})
            metrics.SYNC_SCHEDULING.set(0)
            await asyncio.sleep(max(backoff_s(attempt), _TRY_LOCK_S if not attempt else 0))

    async def _hold_lock_and_work(self) -> None:
        connection = await connect_directly(self._database, name="sync scheduler")
        try:
            async with translated():
                if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK):
                    return
            log.info("sync.scheduling")
            metrics.SYNC_SCHEDULING.set(1)
            while True:
                await self.once()
                async with translated():
                    await connection.fetchval("SELECT 1")  # the lock is held as long as its connection lives
                await asyncio.sleep(min(_LONGEST_PAUSE_S, self._settings.interval_ms / 2000))
        finally:
            with contextlib.suppress(TimeoutError, OSError):
                await connection.close(timeout=5)

    async def once(self) -> None:
        """One look at everything. Raises TransientError when broker or database are away; a WAHA that is away is left out."""
        for source, waha in self._servers.items():
            try:
                sessions = await waha.sessions()
            except (TransientError, WapipeError) as exc:
                log.warning("sync.server_away", extra={"source": source, "detail": str(exc)[:200]})
                continue
            working = [qualify_session(source, s.name) for s in sessions if s.status == "WORKING"]
            await self._ask(working)
            await self._watchdog.look(waha, working)
        await self._groups()
        await self._gaps()

    async def _ask(self, sessions: list[str]) -> None:
        depth_s = self._settings.lookback_days * _DAY_S
        async with translated():
            rows = await self._pool.fetch(queries("gaps")["schedule"], sessions, depth_s)
        due: list[SyncRequest] = []
        for row in rows:
            session = row["session"]
            if session not in self._jitter:
                self._jitter[session] = random.random()  # noqa: S311 - jitter
            due += due_requests(session, _asked(dict(row)), int(time.time()), self._settings, self._jitter[session])
        await publish_requests(self._publisher, due)

    async def _groups(self) -> None:
        """Asks for the members of groups of which somebody came or went."""
        async with translated():
            rows = await self._pool.fetch(queries("gaps")["groups_told"])
        due = [
            make_request(r["session"], "periodic", r["at_s"], r["at_s"], chat=r["chat"], kind="people") for r in rows
        ]
        await publish_requests(self._publisher, [request for request in due if self._servers.has(request.session)])

    async def _gaps(self) -> None:
        """Finds gaps, asks for what they miss, closes those that were seen to."""
        depth_s = float(self._settings.lookback_days * _DAY_S)
        sql = queries("gaps")
        async with translated():
            await self._pool.execute(sql["note_missed"])
            await self._pool.execute(sql["find_not_working"], depth_s)
            await self._pool.execute(sql["find_unknown_quotes"], depth_s)
            await self._pool.execute(sql["find_unknown_reactions"], depth_s)
            await self._pool.execute(sql["find_lost"], depth_s, [MESSAGE.name, BACKFILL.name])
            await self._pool.execute(sql["settle"])
            rows = await self._pool.fetch(sql["open_gaps"])
        for row in rows:
            await self._request(dict(row))
        async with translated():
            await self._pool.execute(sql["forget_runs"])
            found = {r["cause"]: r["gaps"] for r in await self._pool.fetch(sql["count_gaps"])}
        for cause in metrics.SYNC_CAUSES:
            metrics.SYNC_GAPS.labels(cause).set(found.get(cause, 0))

    async def _request(self, gap: Mapping[str, Any]) -> None:
        overlap_s = self._settings.overlap_s
        with contextlib.suppress(ConfigError):
            self._servers.of(gap["session"])
            since_s = max(0, gap["since_s"] - overlap_s)
            request = make_request(gap["session"], "gap", since_s, gap["until_s"] + overlap_s, chat=gap["chat"])
            await publish_requests(self._publisher, [request])
            async with translated():
                await self._pool.execute(queries("gaps")["requested"], gap["id"], request.request_id)


def _asked(row: Mapping[str, Any]) -> Asked:
    return Asked(row["busy"], row["busy_people"], row["until_s"], row["asked_s"], row["deep_s"], row["people_s"])
