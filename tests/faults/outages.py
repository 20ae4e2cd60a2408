"""A dependency away under load, in every way it can be: stopped, cut, stalled, slow, resetting, half-open."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import asyncpg

from pipeline.errors import TransientError
from pipeline.ledger import read_ledger
from tests.faults.compare import connected
from tests.faults.driver import Driver, driving
from tests.faults.outcome import Outcome
from tests.faults.proxy import FAULTS, Mode, Proxy
from tests.faults.rig import PATIENCE_S, Rig, Site
from tests.faults.servers import Server
from tests.site import until

Dependency = Literal["broker", "database"]
Way = Literal["stopped"] | Mode
Window = tuple[Way, ...]  # at the same time
ONE_BY_ONE: tuple[Window, ...] = (("stopped",), *((way,) for way in FAULTS))
TOGETHER: tuple[Window, ...] = (("stopped",), FAULTS)
_READERS = ("messages", "contacts")
_SITE = ("gateway", "messages", "contacts", "sessions")
_SOME = 30  # deliveries, and records, before an outage
_BEHIND_S = 3.0  # what a consumer may be behind on two cores that other scenarios share
# A statement that a stalled database does not answer is given up after this, instead of a minute.
_IMPATIENT = {"WAPIPE_DB_COMMAND_TIMEOUT_S": "5"}


@dataclass(frozen=True, slots=True)
class Recovery:
    """One outage: seconds from its begin until /ready said so, and from its end until rows came and the lag was gone."""

    way: str
    noticed_s: float | None  # None: a slow dependency is not an absent one
    resumed_s: float
    caught_up_s: float

    def line(self) -> str:
        """For people."""
        noticed = "not noticed" if self.noticed_s is None else f"noticed after {self.noticed_s:.1f} s"
        return f"{self.way}: {noticed}, rows after {self.resumed_s:.1f} s, caught up after {self.caught_up_s:.1f} s"


async def outages(
    rig: Rig, logs: Path, dependency: Dependency, seconds: float, *, windows: Sequence[Window], rate_per_s: float
) -> tuple[list[Outcome], list[Recovery]]:
    """One window after the other. Readiness must say it, and all must go on by itself afterwards.

    The ways of a window are at once, each on a site of its own; where it has one only, all sites have it.
    """
    count = max(map(len, windows))
    together = asyncio.Barrier(count)
    async with asyncio.TaskGroup() as group:
        tasks = []
        for number in range(count):
            ways = [window[number % len(window)] for window in windows]
            outage = _Outages(rig, dependency, seconds, together, rate_per_s / count)
            folder = logs / f"site-{number}"
            folder.mkdir()
            tasks.append(group.create_task(outage.of_site(folder, ways)))
    found = [task.result() for task in tasks]
    return [outcome for outcome, _ in found], [recovery for _, recoveries in found for recovery in recoveries]


class _Outages:
    """What one of several sites goes through, at the same moments as the others."""

    def __init__(
        self, rig: Rig, dependency: Dependency, seconds: float, together: asyncio.Barrier, rate_per_s: float
    ) -> None:
        self._rig, self._dependency, self._seconds = rig, dependency, seconds
        self._together, self._rate_per_s = together, rate_per_s

    async def of_site(self, logs: Path, ways: Sequence[Way]) -> tuple[Outcome, list[Recovery]]:
        """One outage after the other."""
        async with (
            self._rig.site(logs, *_SITE, **_IMPATIENT) as site,
            driving(site, rate_per_s=self._rate_per_s) as driver,
        ):
            recoveries = [await self._outage(site, driver, way) for way in ways]
            await self._together.wait()  # the end of a site would heal the servers
            outcome = await driver.finish(f"{self._dependency} {', '.join(ways)}, {self._seconds:g} s each")
            await self._together.wait()
            assert site.strange_ends() == {}
        return outcome, recoveries

    async def _outage(self, site: Site, driver: Driver, way: Way) -> Recovery:
        await driver.progress(_SOME, _SOME)
        leads = await self._together.wait() == 0  # the one that stops and starts what all share
        began = time.monotonic()
        await self._break(site, way, leads)
        noticed: float | None = None
        if way != "slow":
            await asyncio.gather(*(_degraded(site, name) for name in ("gateway", *_READERS)))
            noticed = time.monotonic() - began
        await asyncio.sleep(max(0.0, began + self._seconds - time.monotonic()))
        await self._together.wait()
        await self._heal(site, way, leads)
        await self._together.wait()
        ended, stored = time.monotonic(), driver.stored
        await driver.progress(0, driver.stored - stored + 1)
        resumed = time.monotonic() - ended
        await site.ready()
        await _caught_up(site, self._rate_per_s)
        return Recovery(way, noticed, resumed, time.monotonic() - ended)

    async def _break(self, site: Site, way: Way, leads: bool) -> None:
        if way != "stopped":
            await self._proxy(site).set(way)
        elif leads:
            await self._server().down()

    async def _heal(self, site: Site, way: Way, leads: bool) -> None:
        if way != "stopped":
            await self._proxy(site).set("pass")
        elif leads:
            await self._server().up()

    def _server(self) -> Server:
        return self._rig.kafka if self._dependency == "broker" else self._rig.database

    def _proxy(self, site: Site) -> Proxy:
        return site.broker_proxy if self._dependency == "broker" else site.database_proxy


async def locked_out(rig: Rig, logs: Path) -> Outcome:
    """The connection becomes half-open in the middle of a transaction: the server keeps the locks of a client that is gone.

    Made certain by a lock of the test's: the consumer waits for it inside its transaction, and gets it when nobody hears.
    """
    async with (
        rig.site(logs, *_SITE, **_IMPATIENT) as site,
        driving(site, rate_per_s=30) as driver,
        connected(site) as connection,
    ):
        await driver.progress(30, 30)
        lock = connection.transaction()
        await lock.start()
        await connection.execute(_LOCK)
        await until(lambda: _sessions(connection, "wait_event_type = 'Lock'"), "the consumer to wait for the lock")
        await site.database_proxy.set("half-open")
        await lock.rollback()
        await until(lambda: _sessions(connection, "state = 'idle in transaction'"), "an orphaned transaction")
        await site.database_proxy.set("pass")
        began = time.monotonic()
        await driver.progress(30, 30)
        resumed = time.monotonic() - began
        outcome = await driver.finish("locks of a half-open connection")
    outcome.notes["rows after"] = f"{resumed:.1f} s"
    return outcome


_LOCK = "SELECT FROM whatsapp_gateway.progress WHERE consumer = 'messages' FOR UPDATE"


async def _sessions(connection: asyncpg.Connection[asyncpg.Record], condition: str) -> int | None:
    """How many sessions of the messages consumer are in this state; None when there is none."""
    sql = f"SELECT count(*) FROM pg_stat_activity WHERE application_name = 'wapipe messages' AND {condition}"
    return await connection.fetchval(sql) or None


async def _degraded(site: Site, name: str) -> None:
    async def probe() -> bool | None:
        return True if (await site.members[name].status())[0] == 503 else None

    await until(probe, f"{name} to say that it is not ready", PATIENCE_S)


async def _caught_up(site: Site, rate_per_s: float) -> None:
    """No consumer is further behind than that."""

    async def probe() -> bool | None:
        try:
            books = await read_ledger(site.settings)
        except (TransientError, TimeoutError):  # nothing is at rest yet
            return None
        return True if books.lag <= _BEHIND_S * rate_per_s * len(books.lines) else None

    await until(probe, "the consumers to catch up", PATIENCE_S, every_s=0.5)
