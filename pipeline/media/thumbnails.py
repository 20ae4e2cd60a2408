"""Thumbnails of stored pictures, one after the other, behind the downloads: no download waits for one.

The table says which are wanted, so a process that dies leaves none out; whoever takes one has two minutes.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from pipeline import metrics
from pipeline.errors import TransientError
from pipeline.media.objects import object_key, thumbnail_key
from pipeline.media.picture import UnusablePictureError, limit_process, shrink
from pipeline.postgres import Pool, translated
from pipeline.s3 import Bucket, MissingError
from sql import queries

log = logging.getLogger("wapipe.media")

_SQL = queries("media")
_LOOK_S = 2.0
_BATCH = 8
_MAX_BYTES = 32 * 1024 * 1024  # a picture that is larger is no photograph; of a video the worker has a copy of its own
_MAX_TRIES = 3


class Thumbnails:
    """See module."""

    def __init__(self, pool: Pool, bucket: Bucket, *, pixels: int) -> None:
        self._pool, self._bucket, self._pixels = pool, bucket, pixels
        self._workers: ProcessPoolExecutor | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`."""
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                try:
                    done = await self.make_some()
                except TransientError as exc:
                    log.warning("media.thumbnails_wait", extra={"dependency": exc.dependency})
                    done = 0
                if not done:
                    await asyncio.wait([stopping], timeout=_LOOK_S)
        finally:
            stopping.cancel()
            self.close()

    async def make_some(self) -> int:
        """Takes a few and makes them. Answers how many it took. Raises TransientError."""
        async with translated():
            rows = await self._pool.fetch(_SQL["take_thumbnails"], _BATCH)
        for row in rows:
            result = await self._make(row)
            metrics.MEDIA_THUMBNAILS.labels(result or "again").inc()
            if result is not None:
                async with translated():
                    await self._pool.execute(_SQL["thumbnail_done"], row["sha256"], result)
        return len(rows)

    def close(self) -> None:
        """Ends the worker."""
        if self._workers is not None:
            self._workers.shutdown(wait=False, cancel_futures=True)
            self._workers = None

    async def _make(self, row: Any) -> str | None:
        """made, refused, or None: later."""
        if row["bytes"] > _MAX_BYTES or row["thumbnail_tries"] > _MAX_TRIES:
            return "refused"
        try:
            async with self._bucket.read(object_key(row["sha256"])) as opened:
                data = b"".join([chunk async for chunk in opened.chunks])
            small = await self._shrunk(data)
        except (UnusablePictureError, MissingError):
            return "refused"
        except BrokenProcessPool:  # too much time or memory
            self.close()
            return None
        await self._bucket.put(thumbnail_key(row["sha256"]), small, "image/jpeg")
        return "made"

    async def _shrunk(self, data: bytes) -> bytes:
        if self._workers is None:
            context = multiprocessing.get_context("spawn")  # a fork would take our sockets and locks along
            self._workers = ProcessPoolExecutor(1, mp_context=context, initializer=limit_process)
        return await asyncio.get_running_loop().run_in_executor(self._workers, shrink, data, self._pixels)
