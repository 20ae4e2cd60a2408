"""Fetches the history of one request: pages from WAHA, records to waha.backfill, the cursor into the database, in this order.

Whatever dies in between, the page is fetched again and its records have the same ids.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from pipeline import metrics
from pipeline.errors import WapipeError
from pipeline.sync.envelopes import Fetched, Wrapper, keys_of
from pipeline.sync.state import Claimed, SyncState
from pipeline.sync.walk import Walk
from pipeline.waha import SWEEPING_ENGINES, Waha
from pipeline.waha.answers import Row
from pipeline.waha.errors import TooLargeError, WahaAwayError
from schemas.sync import ALL_CHATS

Publish = Callable[[Sequence[Fetched]], Awaitable[None]]

_CHATS_A_PAGE = 100


class LostError(WapipeError):
    """The request is not ours any more, or was stopped: leave it as it is."""


class History:
    """Of one claimed request on its server."""

    def __init__(self, claimed: Claimed, state: SyncState, waha: Waha, wrapper: Wrapper, publish: Publish) -> None:
        self._claimed, self._state, self._waha, self._wrapper, self._publish = claimed, state, waha, wrapper, publish
        self.page_rows = 0  # of the next page: kept over a wait

    async def fetch(self, largest_rows: int) -> None:
        """Walks the window to its end. Raises LostError, errors of waha.errors, TransientError."""
        claimed, engine = self._claimed, self._wrapper.info.engine
        if claimed.chat == ALL_CHATS and engine not in SWEEPING_ENGINES:
            await self._state.add_children(claimed, await self._chats())
            return
        for form in await self._forms():
            await self._walk(form, largest_rows)

    async def _forms(self) -> list[str]:
        """A chat under all its ids: WAHA merges them only where it knows that they are one."""
        if self._claimed.chat == ALL_CHATS:
            return [ALL_CHATS]
        return await self._state.forms(self._claimed.session, self._claimed.chat)

    async def _walk(self, chat: str, largest_rows: int) -> None:
        claimed = self._claimed
        # Of several forms only the first one can go on in the middle; the others are walked from the beginning.
        resumed = claimed.cursor_s if chat == claimed.chat else None
        start_s = claimed.since_s if resumed is None else resumed
        walk = Walk(start_s, claimed.until_s, min(claimed.page_rows or largest_rows, largest_rows), largest_rows)
        handing_over: asyncio.Task[None] | None = None  # the page before is published while the next one is fetched
        try:
            while not walk.done:
                started = time.monotonic()
                fresh = walk.take(await self._page(walk, chat), time.monotonic() - started)
                self.page_rows = walk.page_rows
                if handing_over is not None:
                    await handing_over
                cursor_s = walk.since_s if chat == claimed.chat else claimed.until_s
                handing_over = asyncio.create_task(self._settle(fresh, cursor_s, walk.page_rows))
            if handing_over is not None:
                await handing_over
        finally:
            if handing_over is not None:
                handing_over.cancel()  # of no effect when it is done; else its page is fetched again
                await asyncio.gather(handing_over, return_exceptions=True)

    async def _settle(self, fresh: list[Row], cursor_s: int, page_rows: int) -> None:
        """Publishes what a page brought, and moves the cursor."""
        new = await self._hand_over(fresh)
        if not await self._state.advance(self._claimed, cursor_s, page_rows, len(fresh), new):
            raise LostError("the request was stopped, or is somebody else's now")

    async def _page(self, walk: Walk, chat: str) -> list[Row]:
        """One page; one that is too large, or never came, is asked for in smaller ones."""
        while True:
            page = walk.next_page()
            try:
                return await self._waha.messages(
                    self._wrapper.info.name, chat, since_s=page.since_s, until_s=page.until_s, limit=page.limit
                )
            except TooLargeError:
                if not walk.too_slow():
                    raise
            except WahaAwayError:
                walk.too_slow()
                self.page_rows = walk.page_rows
                raise

    async def _hand_over(self, rows: list[Row]) -> int:
        """Publishes the rows; answers how many of them the database did not have."""
        if not rows:
            return 0
        keys = keys_of(rows, await self._state.hash_key())
        new = len(keys) - await self._state.known(self._claimed.session, keys)
        await self._publish([self._wrapper.message(row) for row in rows])
        metrics.SYNC_MESSAGES.labels(self._claimed.reason, "new").inc(new)
        metrics.SYNC_MESSAGES.labels(self._claimed.reason, "known").inc(len(rows) - new)
        return new

    async def _chats(self) -> list[str]:
        """The chats that may have messages in the window."""
        return await (self._lively() if self._claimed.reason in ("periodic", "gap") else self._all_chats())

    async def _lively(self) -> list[str]:
        """Those with a message since its beginning: newest first, so most of them need not be listed. One that moves to the
        top meanwhile was just told by webhook, and the next look-back sees it."""
        found: dict[str, None] = {}
        offset = 0
        while page := await self._waha.overview(self._wrapper.info.name, _CHATS_A_PAGE, offset):
            found |= dict.fromkeys(c.id for c in page if c.at_s is not None and c.at_s >= self._claimed.since_s)
            offset += _CHATS_A_PAGE
            if all(c.at_s is not None and c.at_s < self._claimed.since_s for c in page):
                break
        return list(found)

    async def _all_chats(self) -> list[str]:
        found: dict[str, None] = {}
        offset = 0
        while page := await self._waha.chats(self._wrapper.info.name, _CHATS_A_PAGE, offset):
            found |= dict.fromkeys(chat.id for chat in page)
            offset += _CHATS_A_PAGE
        return list(found)
