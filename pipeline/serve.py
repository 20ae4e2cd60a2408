"""A consumer as a process: its database pool, its publisher for dead letters, its /health /ready /metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette

from pipeline import metrics
from pipeline.broker import Publisher
from pipeline.consumer import Consumer
from pipeline.health import health_routes
from pipeline.inflight import WRITERS
from pipeline.lifecycle import background, keep_memory, serve_http, stop_event
from pipeline.pause import Pauses
from pipeline.postgres import Pool, close_pool, open_pool
from pipeline.registry import registry
from pipeline.runner import Runner
from pipeline.settings import Settings, require_secret
from pipeline.watch import Look, books_of, watch


async def run_consumer(
    make: Callable[[Pool], Consumer[Any]], name: str, settings: Settings, *looks: Look, pauses: Pauses | None = None
) -> None:
    """Runs the consumer that `make` makes until SIGTERM, on its registered port unless WAPIPE_METRICS_PORT says otherwise.

    `looks` are repeated for its metrics, beside those that every consumer has. `pauses` is shared with work beside it
    whose waiting /ready tells too.
    """
    require_secret(settings.database.password, "WHATSAPP_DB_PASSWORD", "the database is reached with it")
    metrics.begin_consumer(name)
    keep_memory()
    # Connections: the batches that are written, ids of one more, the books.
    pool = await open_pool(settings.database, name=name, max_size=WRITERS + 2, short_transactions=True)
    try:
        async with Publisher(settings.kafka) as publisher:
            runner = Runner(make(pool), settings, pool, publisher, pauses)
            async with background(watch(pool, books_of(name), *looks)):
                await _serve(runner, settings)
    finally:
        await close_pool(pool)


async def _serve(runner: Runner[Any], settings: Settings) -> None:
    stop, own, name = stop_event(), settings.consumer, runner.consumer.name
    app = Starlette(routes=health_routes(name, alive=runner.alive, ready=runner.ready))
    at = own.metrics_port if own.metrics_port is not None else registry()[name].port
    async with asyncio.TaskGroup() as group:
        group.create_task(serve_http(app, host=own.metrics_host, port=at, stop=stop, name=name))
        group.create_task(runner.run(stop))
