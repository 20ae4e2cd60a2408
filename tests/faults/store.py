"""S3 away while files come in: busy (503 SlowDown), slow, stopped. Afterwards every file is stored, and WAHA was asked again
for no file that it still had.

Between the media process and the server stand a proxy that is slow or cuts, and a front that answers as a busy store does.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Literal, get_args

from producers.simulator import Report, Target, play
from producers.simulator.delivery import Delivery
from producers.simulator.rest import Past, RestServer, SimulatedWaha
from tests.faults.compare import connected
from tests.faults.media import bucket_of_its_own, count_files, count_jobs, none_open
from tests.faults.outages import Recovery
from tests.faults.outcome import Outcome
from tests.faults.proxy import Proxy
from tests.faults.rig import PATIENCE_S, Rig, Site
from tests.faults.servers import Server
from tests.integration.busy_store import BusyStore, busy_store
from tests.simulated_waha import served
from tests.site import until

StoreWay = Literal["busy", "slow", "stopped"]
STORE_WAYS: tuple[StoreWay, ...] = get_args(StoreWay)
_RATE_PER_S = 10.0
_MEDIA = 0.9  # of the messages have a file, of 2 to 62 kB
_SESSIONS = 4
_MORE = 20  # deliveries of an outage that come after it: it begins and ends while files are under way
_LIFETIME_S = 3600.0  # of files, beside the outages: each has time


async def store_away(rig: Rig, logs: Path, seconds: float) -> tuple[Outcome, list[Recovery]]:
    """One outage after the other on the same site, each of so many `seconds`. In the last one WAHA loses its files as well."""
    key, recoveries = secrets.token_hex(8), list[Recovery]()
    each = math.ceil((_RATE_PER_S * seconds + _MORE) / _SESSIONS) * _SESSIONS
    waha = _waha(key, each * len(STORE_WAYS), _LIFETIME_S + seconds * len(STORE_WAYS))
    server, bucket = await rig.store(), await bucket_of_its_own(rig)
    async with _reached(server, bucket["WAPIPE_S3_ENDPOINT_URL"]) as store, served(waha) as url:
        environment = bucket | {
            "WAPIPE_S3_ENDPOINT_URL": store.url, "WAPIPE_WAHA_URL": url, "WHATSAPP_API_KEY": key,
            "WHATSAPP_FILES_LIFETIME": str(waha.files.lifetime_s), "WAPIPE_MEDIA_ASK_RATE_PER_S": "50",
        }  # fmt: skip
        async with rig.site(logs, "gateway", "media", **environment) as site:
            news = _News(site, waha.tell())
            for way in STORE_WAYS:
                assert waha.files.downloads == 0, f"{waha.files.downloads} files that were there were asked for again"
                async with news.coming(each):
                    lose = waha.files.expire if way == STORE_WAYS[-1] else None
                    recoveries.append(await _outage(site, store, way, seconds, lose))
            outcome = await _outcome(site, waha, news.report, f"S3 away {len(STORE_WAYS)} times for {seconds:g} s")
            assert site.strange_ends() == {}
    return outcome, recoveries


def _waha(key: str, messages: int, lifetime_s: float) -> RestServer:
    """Of the last minute, so that its files have all their life before them."""
    past = Past(
        sessions=_SESSIONS, chats=4, messages=messages // _SESSIONS, media=_MEDIA, twins=0, days=1 / 1440,
        end_s=int(time.time()),
    )  # fmt: skip
    waha = RestServer(SimulatedWaha(past), key)
    waha.files.lifetime_s = lifetime_s
    return waha


class _Store:
    """The way to the server, and what is wrong with it."""

    def __init__(self, server: Server, front: BusyStore, proxy: Proxy) -> None:
        self._server, self._front, self._proxy = server, front, proxy
        self.url = f"http://127.0.0.1:{proxy.port}"

    async def fail(self, way: StoreWay) -> None:
        """From now on."""
        if way == "busy":
            self._front.refuses = lambda _: True
        elif way == "slow":
            await self._proxy.set("slow")
        else:
            await self._proxy.set("cut")
            await self._server.down()

    async def heal(self) -> None:
        """Whatever it was."""
        if self._server.child.returncode is not None:
            await self._server.up()
        self._front.refuses = lambda _: False
        await self._proxy.set("pass")


@asynccontextmanager
async def _reached(server: Server, url: str) -> AsyncIterator[_Store]:
    async with busy_store(url) as front:
        proxy = Proxy(front.port)
        await proxy.start()
        store = _Store(server, front, proxy)
        try:
            yield store
        finally:
            await store.heal()
            await proxy.stop()


@dataclass(slots=True)
class _News:
    """What WAHA tells, a part at a time."""

    site: Site
    deliveries: Iterator[Delivery]
    report: Report = field(default_factory=Report)

    @asynccontextmanager
    async def coming(self, count: int) -> AsyncIterator[None]:
        """So many deliveries, from now on and at the latest until the block ends."""
        target = Target(self.site.webhook, self.site.hmac_key)
        part = islice(self.deliveries, count)
        task = asyncio.create_task(play(part, target, rate_per_s=_RATE_PER_S, report=self.report))
        try:
            yield
            await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _outage(
    site: Site, store: _Store, way: StoreWay, seconds: float, lose: Callable[[], None] | None
) -> Recovery:
    """Begins when files are stored. `lose` is called before it ends."""
    before = await count_jobs(site, "stored")
    await _more(site, before + 5, "files that are stored")
    began = time.monotonic()
    await store.fail(way)
    noticed: float | None = None
    if way != "slow":
        await until(lambda: _says_it(site), "the media process to say that S3 is away", PATIENCE_S)
        noticed = time.monotonic() - began
    await asyncio.sleep(max(0.0, began + seconds - time.monotonic()))
    if lose is not None:
        lose()
    before = await count_jobs(site, "stored")
    await store.heal()
    ended = time.monotonic()
    await _more(site, before + 1, "a file that is stored again")
    resumed = time.monotonic() - ended
    await site.ready()
    await until(lambda: none_open(site), "every file to be stored", PATIENCE_S + seconds)
    return Recovery(way, noticed, resumed, time.monotonic() - ended)


async def _says_it(site: Site) -> bool | None:
    status, text = await site.members["media"].status()
    return True if status == 503 and "s3_away" in text else None


async def _more(site: Site, wanted: int, what: str) -> None:
    async def probe() -> bool | None:
        return True if await count_jobs(site, "stored") >= wanted else None

    await until(probe, what, PATIENCE_S)


# A process that died over a job says nothing of the file, so it does not count here.
_TRIES = "SELECT max(attempts - abandoned) AS tries, max(asked) AS asked FROM whatsapp_gateway.media_downloads"


async def _outcome(site: Site, waha: RestServer, report: Report, scenario: str) -> Outcome:
    """Files against jobs, objects against rows; and an outage was no attempt of any job."""
    books = await site.settled(report.delivered)
    outcome = Outcome(scenario, report.delivered, report.lost, difference=books.difference)
    outcome.messages = sum(m.content.has_media for s in waha.waha.sessions.values() for m in s.by_raw_id.values())
    await count_files(site, outcome)
    async with connected(site) as connection:
        tries = await connection.fetchrow(_TRIES)
    assert tries is not None
    assert (tries["tries"], tries["asked"]) == (1, 0)
    assert waha.files.downloads > 0, "no file was lost by WAHA before it was stored: the outage was none"
    outcome.notes["asked for again"] = str(waha.files.downloads)
    return outcome
