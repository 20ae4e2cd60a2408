"""kill -9 of media processes, of S3 and of WAHA while files are fetched: each file is stored, and stored once."""

from __future__ import annotations

import asyncio
import json
import os
import random
import secrets
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from pipeline.local.ports import free_port
from pipeline.local.s3 import Bucket, s3_client
from producers.simulator import Report, Target, play
from tests.faults.compare import connected
from tests.faults.kills import kill_and_return
from tests.faults.outcome import Outcome
from tests.faults.rig import PATIENCE_S, Member, Rig, Site, cold, running_waha
from tests.faults.servers import Server
from tests.faults.waha import simulated_waha
from tests.site import until

_MESSAGES_A_KILL = 5  # of each of four sessions: files must last as long as the kills
_DELIVERIES_A_KILL = 4.0  # of twenty: the rest comes while the last kills are mended
_WEIGHTS = {"media-1": 30, "media-2": 30, "s3": 20, "waha": 20}
_LONGEST_PAUSE_S = 1.0


async def media_kills(rig: Rig, logs: Path, count: int, *, seed: int | None = None) -> Outcome:
    """`count` kills, overlapping, while files are told of, fetched and stored."""
    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    key, port, messages = secrets.token_hex(8), free_port(), _MESSAGES_A_KILL * count
    store, bucket = await rig.store(), await bucket_of_its_own(rig)
    waha = simulated_waha(key, messages)
    environment = bucket | {
        "WAPIPE_WAHA_URL": f"http://127.0.0.1:{port}", "WHATSAPP_API_KEY": key, "WAPIPE_MEDIA_LEASE_S": "5",
        "WAPIPE_MEDIA_ASK_BACKOFF_S": "0", "WAPIPE_MEDIA_ASK_RATE_PER_S": "50",
    }  # fmt: skip
    arguments = [sys.executable, "-m", "tests.faults.waha", str(port), key, str(messages)]
    server = Member("waha", cold(arguments, os.environ), port, logs / "waha.log")
    async with running_waha(server), rig.site(logs, "gateway", "media-1", "media-2", **environment) as site:
        target, report = Target(site.webhook, site.hmac_key), Report()
        told = asyncio.create_task(play(waha.tell(), target, rate_per_s=20, report=report))
        try:
            done = await _kill(site, server, store, random.Random(seed), count, report)
            await told
        finally:
            told.cancel()
            await asyncio.gather(told, return_exceptions=True)
        await site.ready()
        books = await site.settled(report.delivered)
        outcome = Outcome(f"media, {count} x kill -9", report.delivered, report.lost, difference=books.difference)
        outcome.messages = sum(m.content.has_media for s in waha.waha.sessions.values() for m in s.by_raw_id.values())
        await count_files(site, outcome)
    outcome.notes |= {"killed": ", ".join(f"{name} {n}" for name, n in sorted(done.items())), "seed": str(seed)}
    assert site.strange_ends(-signal.SIGKILL, 0) == {}
    return outcome


async def bucket_of_its_own(rig: Rig) -> dict[str, str]:
    """Settings of a bucket of its own."""
    s3, name = await rig.servers.s3(), f"media-{secrets.token_hex(4)}"
    async with s3_client(s3.url, Bucket(name, s3.access_key, s3.secret)) as client:
        await client.create_bucket(Bucket=name)
    return {
        "WAPIPE_S3_ENDPOINT_URL": s3.url, "WHATSAPP_MINIO_ROOT_USER": s3.access_key,
        "WHATSAPP_MINIO_ROOT_PASSWORD": s3.secret, "WHATSAPP_MINIO_BUCKET": name,
    }  # fmt: skip


async def _kill(
    site: Site, waha: Member, store: Server, rng: random.Random, count: int, report: Report
) -> Counter[str]:  # fmt: skip
    """Whoever is up. Nobody is killed before there is news to work on."""
    done: Counter[str] = Counter()
    returning: asyncio.Task[None] | None = None
    try:
        while done.total() < count:
            await _delivered(report, int(done.total() * _DELIVERIES_A_KILL))
            victim = rng.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
            if victim == "s3":
                if returning is None or returning.done():
                    returning = asyncio.create_task(kill_and_return(store))
                    done[victim] += 1
            else:
                member = waha if victim == "waha" else site.members[victim]
                if (await member.status("/ping" if victim == "waha" else "/health"))[0] == 200:
                    done[victim] += member.send(signal.SIGKILL)
            await asyncio.sleep(rng.uniform(0, _LONGEST_PAUSE_S))  # the moment is random
    finally:
        if returning is not None:
            await returning
    return done


async def _delivered(report: Report, wanted: int) -> None:
    async def probe() -> bool | None:
        return True if report.delivered >= wanted else None

    await until(probe, f"{wanted} deliveries", PATIENCE_S)


async def count_files(site: Site, outcome: Outcome) -> None:
    """When every file is stored or given up: files against jobs, then objects against rows, both ways."""
    found = await _over(site)
    states = found["states"]
    outcome.stored = states["stored"]
    outcome.lost = outcome.messages - outcome.stored
    outcome.strange = found["jobs"] - outcome.messages
    for _ in range(2):  # the first finds strangers, the second takes them
        await site.command("media", "sweep", "--yes", "--grace-s", "0", "--json")
    checked = json.loads(await site.command("media", "verify", "--json"))
    outcome.otherwise = sum(len(checked[name]) for name in ("missing", "damaged", "unknown"))
    outcome.notes["states"] = ", ".join(f"{state} {n}" for state, n in states.items() if n)
    outcome.notes["objects"] = str(checked["objects"])


async def _over(site: Site) -> Any:
    """What `wapipe media status` says then."""
    await until(lambda: none_open(site), "every file to be stored or given up", PATIENCE_S)
    found = json.loads(await site.command("media", "status", "--json"))
    assert (found["states"]["pending"], found["states"]["running"]) == (0, 0)
    return found


async def none_open(site: Site) -> bool | None:
    """True when no job waits or is under way."""
    return True if await count_jobs(site, "pending", "running") == 0 else None


async def count_jobs(site: Site, *states: str) -> int:
    """Jobs in these states."""
    async with connected(site) as connection:
        return int(await connection.fetchval(_IN_STATES, list(states)))


_IN_STATES = "SELECT count(*) FROM whatsapp_gateway.media_downloads WHERE download_status = ANY ($1)"
