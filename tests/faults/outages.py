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
from tests.faults.proxy import FAULTS, Mode
from tests.faults.rig import PATIENCE_S, Rig, Site
from tests.site import until

Dependency = Literal["broker", "database"]
Way = Literal["stopped"] | Mode
WAYS: tuple[Way, ...] = ("stopped", *FAULTS)
_READERS = ("messages", "contacts")
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
    rig: Rig,
    logs: Path,
    dependency: Dependency,
    seconds: float,
    *,
    ways: Sequence[Way] = WAYS,
    rate_per_s: float = 80.0,
) -> tuple[Outcome, list[Recovery]]:
    """One outage after the other on the same site. Readiness must say it, and all must go on by itself afterwards."""
    recoveries: list[Recovery] = []
    async with (
        rig.site(logs, "gateway", "messages", "contacts", "sessions", **_IMPATIENT) as site,
        driving(site, rate_per_s=rate_per_s) as driver,
    ):
        for way in ways:
            await driver.progress(100, 100)
            recoveries.append(await _outage(rig, site, driver, dependency, way, seconds, rate_per_s))
        outcome = await driver.finish(f"{dependency} away {len(ways)} times for {seconds:g} s")
        assert site.strange_ends() == {}
    return outcome, recoveries


async def locked_out(rig: Rig, logs: Path) -> Outcome:
    """The connection becomes half-open in the middle of a transaction: the server keeps the locks of a client that is gone.

    Made certain by a lock of the test's: the consumer waits for it inside its transaction, and gets it when nobody hears.
    """
    async with (
        rig.site(logs, "gateway", "messages", "contacts", "sessions", **_IMPATIENT) as site,
        driving(site, rate_per_s=30) as driver,
        connected(site) as connection,
    ):
        await driver.progress(30, 30)
        lock = connection.transaction()
        await lock.start()
        await connection.execute(_LOCK)
        await until(lambda: _sessions(connection, "wait_event_type = 'Lock'"), "the consumer to wait for the lock")
        await rig.database_proxy.set("half-open")
        await lock.rollback()
        await until(lambda: _sessions(connection, "state = 'idle in transaction'"), "an orphaned transaction")
        await rig.database_proxy.set("pass")
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


async def _outage(
    rig: Rig, site: Site, driver: Driver, dependency: Dependency, way: Way, seconds: float, rate_per_s: float
) -> Recovery:
    server = rig.kafka if dependency == "broker" else rig.database
    proxy = rig.kafka_proxy if dependency == "broker" else rig.database_proxy
    began = time.monotonic()
    if way == "stopped":
        await server.down()
    else:
        await proxy.set(way)
    noticed: float | None = None
    if way != "slow":
        await asyncio.gather(*(_degraded(site, name) for name in ("gateway", *_READERS)))
        noticed = time.monotonic() - began
    await asyncio.sleep(max(0.0, began + seconds - time.monotonic()))
    if way == "stopped":
        await server.up()
    else:
        await proxy.set("pass")
    ended, stored = time.monotonic(), driver.stored
    await driver.progress(0, driver.stored - stored + 1)
    resumed = time.monotonic() - ended
    await site.ready()
    await _caught_up(site, rate_per_s)
    return Recovery(way, noticed, resumed, time.monotonic() - ended)


async def _degraded(site: Site, name: str) -> None:
    async def probe() -> bool | None:
        return True if (await site.members[name].status())[0] == 503 else None

    await until(probe, f"{name} to say that it is not ready", PATIENCE_S)


async def _caught_up(site: Site, rate_per_s: float) -> None:
    """No consumer is further behind than that."""

    async def probe() -> bool | None:
        try:
            books = await read_ledger(site.settings)
        except TransientError:
            return None
        return True if books.lag <= _BEHIND_S * rate_per_s * len(books.lines) else None

    await until(probe, "the consumers to catch up", PATIENCE_S)
