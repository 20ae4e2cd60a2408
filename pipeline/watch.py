"""Numbers that a process reads from the database for its metrics, again and again, beside its work."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from pipeline import books, metrics
from pipeline.errors import TransientError
from pipeline.postgres import Pool, translated

Look = Callable[[Pool], Awaitable[None]]

_EVERY_S = 15.0  # as often as Prometheus comes


async def watch(pool: Pool, *looks: Look, every_s: float = _EVERY_S) -> None:
    """Never returns. While the database is away the numbers stay as they were: the metric of the pause says so."""
    while True:
        for look in looks:
            with contextlib.suppress(TransientError):
                async with translated():
                    await look(pool)
        await asyncio.sleep(every_s)


def books_of(consumer: str) -> Look:
    """Do the books of this consumer balance? A few dozen rows; each of its processes looks at all of them."""

    async def look(pool: Pool) -> None:
        difference = books.difference(*await books.snapshot(pool, consumer))
        metrics.BOOKS_DIFFERENCE.labels(consumer).set(difference)

    return look
