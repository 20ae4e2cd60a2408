"""Profile pictures, where that is switched on: one contact after the other, slowly, behind the downloads.

Not a queue: the table says when each contact is asked for again, and whoever takes one puts that off, so a process that dies
leaves none out. Pictures are objects as files are, claimed, put and swept by the same protocol (objects.py).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any

from pipeline import metrics
from pipeline.errors import TransientError
from pipeline.media.fetch import BrokenFileError, Fetcher, GoneError
from pipeline.media.kinds import THUMBNAIL_TYPES, served_type, sniff
from pipeline.media.objects import Objects, object_key
from pipeline.media.origins import Guard, OriginRefusedError
from pipeline.media.receive import Received, TooLargeError, received
from pipeline.media.scan import QuarantinedError, Scanner, UnscannableError
from pipeline.postgres import Pool, translated
from pipeline.s3 import Bucket, MissingError
from pipeline.settings import MediaSettings
from pipeline.waha import errors as waha
from pipeline.waha.servers import WahaServers, split_session
from sql import queries

log = logging.getLogger("wapipe.media")

_SQL = queries("pictures")
_LATELY_S = 30 * 24 * 3600.0
_LOOK_S = 2.0  # at least between two looks when nothing is due
_NEW_EVERY_S = 300.0  # between two looks for new contacts
_SOON_S = 3600.0  # the session does not work, or the engine failed at this one
_MAX_BYTES = 5 * 1024 * 1024  # WhatsApp's own are a tenth of that at most
_ENDED = (
    BrokenFileError, GoneError, OriginRefusedError, TooLargeError, QuarantinedError, UnscannableError,
    MissingError, waha.NotThereError, waha.RefusedError, waha.StoreDisabledError, waha.TooLargeError,
)  # fmt: skip


class Profiles:
    """See module. `guards` and `keys` by source; the guards know the origins of pictures."""

    def __init__(
        self, pool: Pool, bucket: Bucket, fetcher: Fetcher, servers: WahaServers, settings: MediaSettings, *,
        guards: Mapping[str, Guard], keys: Mapping[str, str], scanner: Scanner | None,
    ) -> None:  # fmt: skip
        self._pool, self._bucket, self._fetcher, self._servers = pool, bucket, fetcher, servers
        self._settings, self._guards, self._keys, self._scanner = settings, guards, keys, scanner
        self._objects = Objects(pool)
        self._new_at = 0.0  # new contacts are looked for

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`."""
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                wait_s = self._settings.picture_apart_s
                try:
                    if not await self.look_at_one():
                        wait_s = max(wait_s, _LOOK_S)
                except TransientError as exc:
                    log.warning("media.pictures_wait", extra={"dependency": exc.dependency})
                await asyncio.wait([stopping], timeout=wait_s)
        finally:
            stopping.cancel()

    async def look_at_one(self) -> bool:
        """Asks for the picture that is due. False when none is. Raises TransientError: then it is due again later."""
        row = await self._take()
        if row is None:
            return False
        contact, every_s = row["contact_id"], self._settings.picture_every_s
        if not self._servers.has(row["session"]):
            await self._fail(contact, every_s, "its WAHA is not configured")
            return True
        try:
            result = await self._refresh(row)
        except _ENDED as exc:
            result = "failed"
            await self._fail(contact, every_s, str(exc) or type(exc).__name__)
        except (waha.SessionNotReadyError, waha.EngineError) as exc:
            result = "away"
            await self._fail(contact, min(_SOON_S, every_s), str(exc))
        except TransientError:
            metrics.MEDIA_PICTURES.labels("away").inc()
            raise
        metrics.MEDIA_PICTURES.labels(result).inc()
        return True

    async def _take(self) -> Any:
        """Whoever is due; None when nobody is. New contacts are looked for now and then, since that reads all of them."""
        if time.monotonic() >= self._new_at:
            await self._execute("note_new", _LATELY_S)
            self._new_at = time.monotonic() + _NEW_EVERY_S
        while (row := await self._fetchrow("take", _LATELY_S)) is not None:
            if row["wanted"]:
                return row
        return None

    async def _refresh(self, row: Any) -> str:
        """new, same or none."""
        source = split_session(row["session"])[0]
        server, session = self._servers.of(row["session"])
        url = await server.picture(session, row["jid"])
        if url is None:
            await self._execute("none", row["contact_id"], self._settings.picture_every_s)
            return "none"
        cap = min(_MAX_BYTES, self._settings.max_bytes)
        async with (
            self._fetcher.get(self._guards[source], url, self._keys.get(source)) as body,
            received(body, self._bucket, cap_bytes=cap, expected_sha256=None, scanner=self._scanner) as file,
        ):
            return await self._store(row["contact_id"], file)

    async def _store(self, contact: int, file: Received) -> str:
        """Until no sweep comes in between."""
        kind = sniff(file.head)
        if kind is None or kind[0] not in THUMBNAIL_TYPES:
            raise BrokenFileError("no_picture")
        while True:
            claim = await self._objects.claim(file.sha256, file.size, *kind)
            if not claim.stored:
                await file.put(object_key(file.sha256), served_type(kind[0]))
            row = await self._fetchrow("store", contact, file.sha256, claim.swept, self._settings.picture_every_s)
            if row is not None:
                return "new" if row["changed"] else "same"

    async def _fail(self, contact: int, after_s: float, error: str) -> None:
        await self._execute("failed", contact, after_s, error[:300])

    async def _fetchrow(self, name: str, *values: Any) -> Any:
        async with translated():
            return await self._pool.fetchrow(_SQL[name], *values)

    async def _execute(self, name: str, *values: Any) -> None:
        async with translated():
            await self._pool.execute(_SQL[name], *values)
