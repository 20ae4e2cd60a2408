"""`GET /api/ledger`: the books of the installation, as `wapipe ledger --json` prints them.

The only route that asks the broker, so an answer is kept for a few seconds and shared by all who ask meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field

from pipeline.api.problems import problem_response
from pipeline.api.routes import check_token
from pipeline.errors import TransientError
from pipeline.ledger import Ledger, read_ledger
from pipeline.postgres import Pool
from pipeline.settings import Settings

_KEPT_S = 5.0
_LONGEST_S = 10.0


class BooksOfConsumer(BaseModel):
    """One consumer, all partitions together."""

    consumer: str
    records: int = Field(description="Read so far: written + merged + skipped + dead.")
    written: int
    merged: int = Field(description="Went into rows that were there.")
    skipped: int
    dead: int = Field(description="In the dead-letter topic.")
    gap: int = Field(description="Offsets that the broker no longer had.")
    lag: int = Field(description="Records that it has not reached yet.")
    difference: int = Field(description="Records unaccounted for; 0 when all is well.")
    skipped_events: dict[str, int]


class Books(BaseModel):
    """Broker on one side, progress rows on the other."""

    as_of: datetime
    received: int = Field(description="Records ever published to the live and backfill topics.")
    fetched: int = Field(description="Those of the backfill topic among them: history and people, fetched from WAHA.")
    parked: int
    spooled: int | None = Field(description="Events in the spool of this machine; null where there is none.")
    unread: int = Field(description="Records of partitions that no consumer has begun.")
    lag: int
    difference: int
    consumers: list[BooksOfConsumer]
    replays: list[BooksOfConsumer] = Field(description="Books of replays, CONSUMER@replay-ID; their lag is always 0.")


class LedgerDesk:
    """Reads the books at most once in `_KEPT_S`, however many ask."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings, self._clock = settings, clock
        self._task: asyncio.Task[tuple[datetime, Ledger]] | None = None
        self._old_at = 0.0

    async def read(self, pool: Pool | None) -> tuple[datetime, Ledger]:
        """The books and when they were read. Raises TransientError; the next one who asks tries again."""
        task = self._task
        if task is None or (task.done() and (task.cancelled() or task.exception() or self._clock() > self._old_at)):
            task = self._task = asyncio.create_task(self._read(pool), name="ledger")
        return await asyncio.shield(task)  # who asks may go away; others wait for the same

    async def _read(self, pool: Pool | None) -> tuple[datetime, Ledger]:
        if pool is None:
            raise TransientError("postgres", "the pool is not open")
        try:
            async with asyncio.timeout(_LONGEST_S):
                books = await read_ledger(self._settings, pool)
        except TimeoutError as exc:
            raise TransientError("kafka", f"the books could not be read within {_LONGEST_S:.0f} s") from exc
        self._old_at = self._clock() + _KEPT_S
        return datetime.now(UTC), books


router = APIRouter(
    prefix="/api",
    dependencies=[Depends(check_token)],
    responses={
        401: problem_response("The token is missing or wrong."),
        503: problem_response("Broker or database do not answer; `Retry-After` says when to try again."),
    },
)


async def _desk(request: Request) -> LedgerDesk:
    desk: LedgerDesk = request.app.state.ledger
    return desk


@router.get("/ledger", operation_id="ledger")
async def ledger(request: Request, desk: Annotated[LedgerDesk, Depends(_desk)]) -> Books:
    """Do the books balance? Read at most every 5 seconds; `as_of` says when."""
    as_of, books = await desk.read(request.app.state.store.pool)
    return Books(as_of=as_of, **books.as_dict())
