"""Notices a session that works by WAHA's word while its webhooks have stopped: asks WAHA for its newest message when nothing
came for longer than is usual for it. A difference is a gap; restarting such a session helps, and is done where it is set."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from pipeline import metrics
from pipeline.errors import WapipeError
from pipeline.postgres import Pool, translated
from pipeline.waha import Waha, split_session
from sql import queries

log = logging.getLogger("wapipe.sync")

SHORTEST_S, LONGEST_S = 600.0, 21_600.0  # silences that are asked about: a call each, so a wrong guess costs little
_TIMES_USUAL = 3.0
_SAME_S = 120  # last_event_at is kept to the minute, and what is sent this moment is on its way
_RESTART_EVERY_S = 3600.0


def allowed_s(usual_s: float | None) -> float:
    """How long a session may be silent whose chats fall silent `usual_s` apart, None when nobody knows."""
    return LONGEST_S if usual_s is None else min(max(usual_s * _TIMES_USUAL, SHORTEST_S), LONGEST_S)


class Watchdog:
    """Of the process that schedules. `restart`: whether it may restart a session."""

    def __init__(self, pool: Pool, *, restart: bool, clock: Callable[[], float] = time.time) -> None:
        self._pool, self._restart, self._clock = pool, restart, clock
        self._asked_at: dict[str, float] = {}
        self._restarted_at: dict[str, float] = {}
        self._deaf: dict[str, float] = {}  # to when it was heard last

    async def look(self, waha: Waha, working: Sequence[str]) -> None:
        """At the sessions of one server. Raises TransientError when the database is away."""
        async with translated():
            rows = {r["name"]: r for r in await self._pool.fetch(queries("gaps")["silent"], list(working))}
        for session in working:
            row = rows.get(session)
            if row is None or row["heard_s"] > self._deaf.get(session, row["heard_s"]):
                self._deaf.pop(session, None)
            if row is not None:
                await self._ask(waha, session, row)
        metrics.SYNC_DEAF.set(len(self._deaf))

    async def _ask(self, waha: Waha, session: str, row: Any) -> None:
        now, patience_s = self._clock(), allowed_s(row["usual_s"])
        if now - row["heard_s"] < patience_s or now - self._asked_at.get(session, 0) < patience_s:
            return
        self._asked_at[session] = now
        try:
            newest = await waha.overview(split_session(session)[1], 1, 0)
        except WapipeError as exc:
            log.info("sync.watchdog_unanswered", extra={"session": session, "detail": str(exc)[:200]})
            return
        at_s = max((chat.at_s or 0 for chat in newest), default=0)
        if at_s <= row["heard_s"] + _SAME_S:
            return
        log.warning("sync.session_deaf", extra={"session": session, "behind_s": int(at_s - row["heard_s"])})
        self._deaf[session] = row["heard_s"]
        async with translated():
            await self._pool.execute(queries("gaps")["note_deaf"], session, int(row["heard_s"]), int(now))
        if self._restart and now - self._restarted_at.get(session, 0) >= _RESTART_EVERY_S:
            await self._restart_session(waha, session, now)

    async def _restart_session(self, waha: Waha, session: str, now: float) -> None:
        self._restarted_at[session] = now
        try:
            await waha.restart(split_session(session)[1])
        except WapipeError as exc:
            log.warning("sync.restart_refused", extra={"session": session, "detail": str(exc)[:200]})
            return
        metrics.SYNC_RESTARTS.inc()
        log.warning("sync.session_restarted", extra={"session": session})
