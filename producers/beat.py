"""Keeps in the database that the webhook is being served, so that a time in which nobody did becomes a gap of every session."""

from __future__ import annotations

import asyncio
import logging
import time

from pipeline.errors import TransientError
from pipeline.postgres import Pool, translated
from sql import queries

log = logging.getLogger("wapipe.ingress")

_EVERY_S = 10.0  # sql/queries/gaps.sql takes three missed ones for a gap


async def keep_beat(pool: Pool, *, every_s: float = _EVERY_S) -> None:
    """Begin it when the webhook answers. Never returns; a database that is away is no gap, for events go to the broker."""
    began = time.monotonic()
    while True:
        try:
            await beat(pool, time.monotonic() - began)
        except TransientError as exc:
            log.debug("beat.missed", extra={"dependency": exc.dependency})
        except Exception:  # not migrated yet, or a role that may not: the webhook goes on all the same
            log.warning("beat.failed", exc_info=True)
        await asyncio.sleep(every_s)


async def beat(pool: Pool, served_for_s: float) -> None:
    """One. Raises TransientError."""
    async with translated():
        await pool.execute(queries("gaps")["beat"], served_for_s)
