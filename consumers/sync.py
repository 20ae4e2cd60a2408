"""The sync consumer: a request on wapipe.sync becomes a row of sync_state; the same process works on the rows.

A row stays until it is fetched, so a record is done with as soon as its row is stored, and a request takes as long as it takes.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from pipeline import metrics
from pipeline.batch import Event, Partition, Place
from pipeline.broker import Publisher
from pipeline.lifecycle import background
from pipeline.postgres import Connection, Pool, close_pool, open_pool
from pipeline.serve import run_consumer
from pipeline.settings import Settings, require_secret
from pipeline.sync.brake import Brake
from pipeline.sync.scheduler import Scheduler
from pipeline.sync.state import SyncState, add_requests
from pipeline.sync.worker import SyncWorker
from pipeline.waha import WahaServers
from schemas.sync import EVENT, SyncRequest, parse_request
from schemas.topics import SYNC, Topic
from sql import queries


class Placed(NamedTuple):
    """A request and where its record stands."""

    request: SyncRequest
    place: Place


class Sync:
    """See module. `stored` is called when rows were written: somebody may begin to work on them."""

    name = "sync"
    topics: tuple[Topic, ...] = (SYNC,)
    events = frozenset({EVENT})

    def __init__(self, _pool: Pool, *, stored: Callable[[], None] = lambda: None) -> None:
        self._stored = stored

    def decode(self, event: Event) -> Placed:
        """See pipeline.consumer.Consumer."""
        return Placed(parse_request(event.value), event.place)

    async def prepare(self, batch: list[Placed]) -> list[Placed]:
        """See pipeline.consumer.Consumer. Nothing is looked up; of the same request twice the first one counts."""
        return list({placed.request.request_id: placed for placed in reversed(batch)}.values())[::-1]

    async def stage(self, connection: Connection, batch: list[Placed]) -> None:
        """See pipeline.consumer.Consumer. A request is written as it is."""

    async def write(self, connection: Connection, batch: list[Placed]) -> dict[Partition, int]:
        """See pipeline.consumer.Consumer."""
        new = await add_requests(connection, [placed.request for placed in batch])
        self._stored()
        written = (p.place for p in batch if p.request.request_id in new)
        return Counter(Partition(place.topic, place.partition) for place in written)


async def open_requests(pool: Pool) -> None:
    """For the metrics: what is waiting, and since when."""
    rows = {r["status"]: r for r in await pool.fetch(queries("sync")["counts"])}
    for status in metrics.SYNC_STATUSES:
        metrics.SYNC_OPEN.labels(status).set(rows[status]["requests"] if status in rows else 0)
    metrics.SYNC_OLDEST_SECONDS.set(max((r["oldest_s"] for r in rows.values()), default=0))


async def main(settings: Settings) -> None:
    """Process `sync`."""
    require_secret(settings.database.password, "WHATSAPP_DB_PASSWORD", "the database is reached with it")
    owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
    own = settings.sync
    pool = await open_pool(settings.database, name="sync work", max_size=own.walkers + 2)
    try:
        async with WahaServers(settings.waha) as servers, Publisher(settings.kafka) as publisher:
            state = SyncState(pool, owner, lease_s=own.lease_s)
            brake = Brake(state, pool, settings.kafka, own)
            worker = SyncWorker(state, servers, publisher, brake, own)
            scheduler = Scheduler(pool, settings.database, servers, publisher, own)
            asking = [scheduler.run()] if own.enabled else []
            async with background(brake.watch(), worker.run(), *asking):
                await run_consumer(lambda p: Sync(p, stored=worker.wake), Sync.name, settings, open_requests)
    finally:
        await close_pool(pool)
