"""kill -9 of random processes at random moments: gateway, consumers, broker, database."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import psutil

from tests.faults.compare import connected
from tests.faults.driver import Driver, driving
from tests.faults.outcome import Outcome
from tests.faults.rig import Rig, Site
from tests.faults.servers import Server

# Static ids as docs/operations.md recommends them; contacts goes without, so that the other way is killed as well.
MEMBERS = ("gateway", "messages-1", "messages-2", "contacts", "sessions")
_ROUND = 20  # kills between two waits for progress
# Of a hundred kills. A broker needs seconds to come back, a process of ours one.
_WEIGHTS = {
    "gateway": 26, "messages-1": 24, "messages-2": 24, "contacts": 9, "sessions": 6, "database backend": 7,
    "database": 2, "kafka": 2,
}  # fmt: skip
_LONGEST_PAUSE_S = 0.5
_WHILE_STARTING = 0.1  # the share of attempts on a process that does not serve yet that are carried out


async def kills(rig: Rig, logs: Path, count: int, *, seed: int | None = None, rate_per_s: float = 80.0) -> Outcome:
    """`count` kills under traffic, overlapping: others may be down, and a few victims are just starting."""
    async with rig.site(logs, "gateway", "contacts") as site:
        for name in ("messages-1", "messages-2", "sessions"):
            await site.add(name, WAPIPE_INSTANCE_ID=name)
        await site.ready()
        async with driving(site, rate_per_s=rate_per_s, seed=seed) as driver:
            done = await _Killer(rig, site, driver).kill(count)
            await site.ready()
            await driver.progress(100, 100)
            outcome = await driver.finish(f"{count} x kill -9")
    outcome.notes["killed"] = ", ".join(f"{name} {n}" for name, n in sorted(done.items()))
    strange = site.strange_ends(-signal.SIGKILL, 0)
    assert strange == {}, strange
    return outcome


class _Killer:
    def __init__(self, rig: Rig, site: Site, driver: Driver) -> None:
        self._rig, self._site, self._driver = rig, site, driver
        self._rng = random.Random(driver.seed)
        self._returning: dict[str, asyncio.Task[None]] = {}

    async def kill(self, count: int) -> Counter[str]:
        done: Counter[str] = Counter()
        try:
            while done.total() < count:
                if done.total() % _ROUND == 0:
                    await self._driver.progress(40, 40)  # a kill counts only under traffic
                victim = self._rng.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
                if await self._kill(victim):
                    done[victim] += 1
                await asyncio.sleep(self._rng.uniform(0, _LONGEST_PAUSE_S))  # the moment is random
        finally:
            await asyncio.gather(*self._returning.values())
        return done

    async def _kill(self, victim: str) -> bool:
        """False when there is nothing to kill at this moment."""
        if victim == "database backend":
            return await self._kill_backend()
        if victim in ("database", "kafka"):
            server = self._rig.database if victim == "database" else self._rig.kafka
            return await self._start_return(victim, lambda: kill_and_return(server))
        member = self._site.members[victim]
        if (await member.status("/health"))[0] == 0 and self._rng.random() > _WHILE_STARTING:
            return False
        return member.send(signal.SIGKILL)

    async def _start_return(self, victim: str, work: Callable[[], Awaitable[None]]) -> bool:
        running = self._returning.get(victim)
        if running is not None:
            if not running.done():
                return False
            running.result()

        async def run() -> None:
            await work()

        self._returning[victim] = asyncio.create_task(run())
        return True

    async def _kill_backend(self) -> bool:
        """One backend of a process of ours: PostgreSQL ends all sessions and recovers."""
        with contextlib.suppress(OSError, asyncpg.PostgresError):
            async with connected(self._site) as connection:
                pids = await connection.fetch(
                    "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'wapipe%' ORDER BY pid"
                )
            if pids:
                psutil.Process(self._rng.choice(pids)["pid"]).kill()
                return True
        return False


async def kill_and_return(server: Server) -> None:
    """kill -9; returns when it is ready again."""
    await server.kill()
    await server.up()
