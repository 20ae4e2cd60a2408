"""Processes restarted in turn, added and taken away, partitions added, ids that clash: all under traffic."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from pipeline.broker import apply_topics, topic_states
from pipeline.errors import ConfigError
from pipeline.registry import consumer_names
from pipeline.settings import load_settings
from schemas.topics import MESSAGE, all_topics
from tests.faults.compare import connected
from tests.faults.driver import driving
from tests.faults.outcome import Outcome
from tests.faults.rig import PATIENCE_S, Member, Rig, Site
from tests.site import until

_PROCESSES = ("gateway", "messages", "contacts", "sessions")
_WRITTEN = 'wapipe_records_total{consumer="messages",outcome="written"}'
_ASSIGNED = "wapipe_lag_records{"
_MORE_PARTITIONS = 16
# Long enough to be recognised on a machine whose processes take seconds to notice that they were thrown out.
_TWIN_SESSION_S = 20


async def rolling_restart(rig: Rig, logs: Path, *, rate_per_s: float = 80.0) -> Outcome:
    """SIGTERM to one process after the other; each is ready again before the next one goes."""
    async with rig.site(logs, *_PROCESSES) as site, driving(site, rate_per_s=rate_per_s) as driver:
        for name in _PROCESSES:
            await driver.progress(40, 40)
            member = site.members[name]
            member.send(signal.SIGTERM)
            await until(lambda m=member: _restarted(m), f"{name} to end", PATIENCE_S)  # type: ignore[misc]
            await member.ready()
        await driver.progress(100, 100)
        outcome = await driver.finish("rolling restart of all")
        assert site.strange_ends(0) == {}
    return outcome


async def scale(rig: Rig, logs: Path, *, steps: tuple[int, ...] = (1, 2, 4, 1), rate_per_s: float = 100.0) -> Outcome:
    """So many processes of the messages consumer, one step after the other; each must have done some of the work."""
    async with rig.site(logs, *_PROCESSES) as site, driving(site, rate_per_s=rate_per_s) as driver:
        await driver.progress(100, 100)
        running, pauses = ["messages"], list[str]()
        driver.longest_stall()
        for count in steps[1:]:
            while len(running) > count:
                assert await site.members[running.pop()].stop() == 0
            while len(running) < count:
                running.append(f"messages-{len(running) + 1}")
                await site.add(running[-1])
            for name in running:
                await site.members[name].ready()
                await until(lambda m=site.members[name]: _works(m), f"{name} to store something", PATIENCE_S)  # type: ignore[misc]
            await driver.progress(50, 50)
            pauses.append(f"{driver.longest_stall():.1f} s")
        outcome = await driver.finish(f"scale {' -> '.join(map(str, steps))}")
        outcome.notes["longest pauses"] = ", ".join(pauses)
        assert site.strange_ends(0) == {}
    return outcome


async def grow(rig: Rig, logs: Path, *, rate_per_s: float = 80.0) -> Outcome:
    """`topics apply` with more partitions under traffic; what lands in the new ones is stored like everything else."""
    async with rig.site(logs, *_PROCESSES) as site, driving(site, rate_per_s=rate_per_s) as driver:
        await driver.progress(100, 100)
        (before,) = await topic_states(site.settings.kafka, [MESSAGE])
        more = load_settings(site.direct | {"WAPIPE_KAFKA_PARTITIONS": str(_MORE_PARTITIONS)})
        await apply_topics(more.kafka, all_topics(consumer_names()))
        await until(lambda: _stored_in(site, before.partitions), "rows out of the new partitions", PATIENCE_S * 2)
        await driver.progress(50, 50)
        outcome = await driver.finish(f"{before.partitions} partitions become {_MORE_PARTITIONS}")
        assert site.strange_ends() == {}
    return outcome


async def same_id(rig: Rig, logs: Path, *, rate_per_s: float = 60.0) -> Outcome:
    """A second process with the static id of a live one: it must say so and go, and the first one must go on."""
    async with (
        rig.site(logs, "gateway", "contacts", "sessions", WAPIPE_SESSION_TIMEOUT_MS=f"{_TWIN_SESSION_S}000") as site,
        driving(site, rate_per_s=rate_per_s) as driver,
    ):
        first = await site.add("messages", WAPIPE_INSTANCE_ID="twin")
        await first.ready()
        await asyncio.sleep(_TWIN_SESSION_S)  # a member in peace for so long is the one that was there first
        await driver.progress(50, 50)
        second = await site.add("messages-2", keep=False, WAPIPE_INSTANCE_ID="twin")
        status = await second.ended()
        assert status == ConfigError.exit_code, (status, second.tail())
        assert "WAPIPE_INSTANCE_ID=twin is used by another live process" in second.tail()
        await driver.progress(50, 50)
        await first.ready()
        outcome = await driver.finish("two processes with one static id")
        assert site.strange_ends(ConfigError.exit_code) == {}
        outcome.notes["said"] = f"{first.said('instance_id.taken')} times by the first"
    return outcome


async def _restarted(member: Member) -> bool | None:
    return True if member.ends[0] else None


async def _works(member: Member) -> bool | None:
    return True if await member.metric(_WRITTEN) > 0 else None


async def _stored_in(site: Site, partition: int) -> bool | None:
    """True once a partition from `partition` on has given records."""
    async with connected(site) as connection:
        return True if await connection.fetchval(_NEW_RECORDS, MESSAGE.name, partition) else None


_NEW_RECORDS = """
SELECT count(*) FROM whatsapp_gateway.progress
WHERE consumer = 'messages' AND topic = $1 AND partition >= $2 AND records > 0
"""
