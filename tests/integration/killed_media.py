"""Downloads of one process that kills itself (SIGKILL) at a stage of its first file, or says how much memory it took.

`python -m tests.integration.killed_media STAGE`: fetching, part, claimed, put, stored; or `memory`, which ends by itself.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from pipeline.media.fetch import Fetcher
from pipeline.media.objects import Objects
from pipeline.media.run import downloads
from pipeline.postgres import Pool, open_pool
from pipeline.s3 import Bucket
from pipeline.settings import load_settings
from tests.integration.files import nobody
from tests.site import until


def _die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _after(owner: Any, name: str, then: Callable[..., None]) -> None:
    method = getattr(owner, name)

    async def call(*args: Any, **options: Any) -> Any:
        found = await method(*args, **options)
        then()
        return found

    setattr(owner, name, call)


def _die_after_put() -> None:
    _after(Bucket, "put", _die)
    _after(Bucket, "copy", _die)


STAGES: dict[str, Callable[[], None]] = {
    "fetching": lambda: setattr(Fetcher, "get", _die),
    "part": lambda: _after(Bucket, "put_part", _die),
    "claimed": lambda: _after(Objects, "claim", _die),
    "put": _die_after_put,
    "stored": lambda: _after(Objects, "store", _die),
    "memory": lambda: None,
}


async def _over(pool: Pool) -> bool | None:
    count = await pool.fetchval(
        "SELECT count(*) FROM whatsapp_gateway.media_downloads WHERE download_status NOT IN ('pending', 'running')"
    )
    return True if count else None


async def main(stage: str) -> None:
    STAGES[stage]()
    settings = load_settings()
    pool = await open_pool(settings.database, name="killed")
    stop = asyncio.Event()
    async with downloads(settings, pool, ask=nobody) as running:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        task = asyncio.create_task(running.run(stop, grace_s=10))
        await until(partial(_over, pool), "the file")
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024, flush=True)
        stop.set()
        await task
    await pool.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
