"""The demo's history: a simulated WAHA has one, webhooks tell a part of it, sync fetches the rest; then a gap opens and closes.

Its sessions begin to work when the webhooks were told, so that it can be seen what is there without sync. The server also has
the files of the simulated traffic.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.errors import TransientError
from pipeline.lifecycle import serve_http
from pipeline.local.ports import free_port, require_free
from pipeline.postgres import Pool, open_pool, translated
from pipeline.settings import Settings
from pipeline.sync.coverage import Coverage, Gap, read_coverage, read_gaps
from sql import queries

# The scheduler looks every half of it: the demo does not wait for the look-backs of an operator's cadence.
SYNC_ENVIRONMENT = {"WHATSAPP_SYNC_INTERVAL_MS": "4000"}

_SETTLE_S = 180.0  # a few seconds where the machine has nothing else to do
_LOST = 0.2  # of the webhooks
_HOUR_S = 3600
_AWAY = "history-01"
_AWAY_MESSAGES = 40


@dataclass(frozen=True, slots=True)
class Fetched:
    """Of a session: messages that WAHA has, how many of them are stored, what coverage says, the gaps that were closed."""

    session: str
    there: int
    stored: int
    coverage: Coverage
    closed: list[Gap]

    @property
    def complete(self) -> bool:
        """Every message is stored, and coverage knows it."""
        return self.stored == self.there and self.coverage.complete == "true"


class History:
    """Two sessions with a past of some hundred messages, on a simulated WAHA."""

    def __init__(self, api_key: str, seed: int) -> None:
        rest: Any = importlib.import_module("producers.simulator.rest")
        self._now_s = int(time.time())
        past = rest.Past(
            engines=("NOWEB", "WEBJS"), sessions=2, chats=6, messages=300, days=5.0, media=0.0, end_s=self._now_s,
            session_prefix="history", seed=seed,
        )  # fmt: skip
        self._server = rest.RestServer(rest.SimulatedWaha(past), api_key)
        self._work("STARTING")

    @asynccontextmanager
    async def serving(self, port: int) -> AsyncIterator[None]:
        """Its REST, and a file for every message of any simulated traffic."""
        stop, app = asyncio.Event(), self._server.app()
        task = asyncio.create_task(serve_http(app, host="127.0.0.1", port=port, stop=stop, name="simulated WAHA"))
        try:
            yield
        finally:
            stop.set()
            await task

    def webhooks(self) -> Iterator[Any]:
        """Deliveries of what was told of it when it happened."""
        for _, delivery in self._server.waha.webhooks(lost=_LOST):
            yield delivery

    def begin(self) -> None:
        """From now on its sessions work, and sync may ask for what they have."""
        self._work("WORKING")

    def outage(self) -> Any:
        """One of them did not work for two hours, and has got messages meanwhile: the delivery that says so."""
        since_s = self._now_s - 4 * _HOUR_S
        return self._server.waha.outage(_AWAY, since_s, since_s + 2 * _HOUR_S, _AWAY_MESSAGES)

    async def read(self, settings: Settings) -> list[Fetched]:
        """What is stored of it now. Raises TransientError."""
        async with await open_pool(settings.database, name="demo", max_size=1) as pool, translated():
            return [await self._fetched(pool, name) for name in self._server.waha.sessions]

    async def settled(self, settings: Settings, gaps: int = 0) -> list[Fetched]:
        """Once all of it is stored and so many gaps were closed; as it is after `_SETTLE_S` otherwise."""
        end = time.monotonic() + _SETTLE_S
        while True:
            with contextlib.suppress(TransientError):
                found = await self.read(settings)
                done = all(f.complete for f in found) and sum(len(f.closed) for f in found) >= gaps
                if done or time.monotonic() > end:
                    return found
            await asyncio.sleep(0.3)

    async def _fetched(self, pool: Pool, session: str) -> Fetched:
        truth = self._server.waha.sessions[session].truth()
        stored = {row["message_id"] for row in await pool.fetch(queries("sync")["message_ids"], session)}
        closed = [g for g in await read_gaps(pool, session, closed=True) if g.status == "closed" and g.found]
        return Fetched(session, len(truth), len(stored & truth.keys()), await read_coverage(pool, session), closed)

    def _work(self, status: str) -> None:
        for session in self._server.waha.sessions.values():
            session.status = status


async def simulated_waha_port(settings: Settings) -> int:
    """Where the simulated WAHA will serve. Raises ConfigError when somebody else has the port."""
    port = settings.local.simulator_port or free_port()
    await require_free(port, "the simulated WAHA", "WAPIPE_LOCAL_SIMULATOR_PORT")
    return port


def show_history(told: list[Fetched], filled: list[Fetched], after: list[Fetched], out: Console) -> None:
    """By webhooks alone, filled by sync, and after the gap."""
    out.print("\na history, of which webhooks told a part and sync fetched the rest:", style="bold")
    table = Table(
        "session", "WAHA has", "by webhook", "complete", "after sync", "complete", box=None, header_style="bold"
    )
    for before, now in zip(told, filled, strict=True):
        numbers = f"{now.there:,}", f"{before.stored:,}", before.coverage.complete, f"{now.stored:,}"
        table.add_row(now.session, *numbers, now.coverage.complete)
    out.print(table)
    for now in after:
        for gap in now.closed:
            out.print(
                f"gap of {now.session} ({gap.cause}, {_span(gap)}): closed, {gap.found:,} messages found; "
                f"now {now.stored:,} of {now.there:,}, complete: {now.coverage.complete}",
                soft_wrap=True,
            )
        if not now.complete:
            out.print(f"{now.session}: {now.stored:,} of {now.there:,}; {now.coverage.why}")


def is_whole(after: list[Fetched]) -> bool:
    """Whether everything is there, and the gap was closed with all that was missing."""
    found = sum(gap.found or 0 for now in after if now.session == _AWAY for gap in now.closed)
    return all(now.complete for now in after) and found == _AWAY_MESSAGES


def _span(gap: Gap) -> str:
    since, until = (datetime.fromtimestamp(s, UTC) for s in (gap.since_s, gap.until_s))
    return f"{since:%m-%d %H:%M} to {until:%m-%d %H:%M} UTC"
