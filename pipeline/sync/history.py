"""Fetches the history of one request: pages from WAHA, records to waha.backfill, the cursor into the database, in this order.

Whatever dies in between, the page is fetched again and its records have the same ids.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence

from pipeline import metrics
from pipeline.errors import WapipeError
from pipeline.sync.envelopes import Fetched, Wrapper, ids_of, keys_of
from pipeline.sync.people import pages
from pipeline.sync.state import Claimed, SyncState
from pipeline.sync.walk import Walk
from pipeline.waha import SWEEPING_ENGINES, Waha
from pipeline.waha.answers import Row
from pipeline.waha.errors import EngineError, NotThereError, RefusedError, TooLargeError, WahaAwayError
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

    async def fetch(self, largest_rows: int) -> bool:
        """Walks the window to its end. False when it became a request for each chat instead. Raises LostError, errors of
        waha.errors, TransientError."""
        claimed, engine = self._claimed, self._wrapper.info.engine
        if claimed.chat == ALL_CHATS and engine not in SWEEPING_ENGINES:
            if not await self._state.spread(claimed, await self._people_once(await self._chats(), largest_rows)):
                raise LostError("the request was stopped, or is somebody else's now")
            return False
        first, *others = await self._forms()
        begun = await self._walk(first, largest_rows)
        for form in others:
            if begun.isdisjoint(await self._first_ids(form, largest_rows)):
                await self._walk(form, largest_rows)
        return True

    async def _forms(self) -> list[str]:
        """A chat under all its ids: WAHA merges them only where it knows that they are one. Without those that have a request
        of their own."""
        claimed = self._claimed
        if claimed.chat == ALL_CHATS:
            return [ALL_CHATS]
        own, *others = await self._state.forms(claimed.session, claimed.chat)
        asked = await self._state.siblings(claimed, others) if others else set[str]()
        return [own, *(form for form in others if form not in asked)]

    async def _people_once(self, chats: list[str], largest_rows: int) -> list[str]:
        """The chats without those that WAHA lists together with another one: a person's hidden id beside his number."""
        twins = await self._state.twins(self._claimed.session, chats)
        if self._claimed.reason in ("initial", "manual"):  # the database may not know them yet
            twins |= await self._told_twins(frozenset(chats))
        same = [lid for lid, phone in twins.items() if await self._is_same(phone, lid, largest_rows)]
        return [chat for chat in chats if chat not in same]

    async def _told_twins(self, chats: frozenset[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        if not any(chat.endswith("@lid") for chat in chats):
            return found
        name = self._wrapper.info.name
        with contextlib.suppress(NotThereError, RefusedError, EngineError):  # what this engine does not have
            async for _, page in pages(lambda limit, offset: self._waha.lids(name, limit, offset)):
                found |= {one.lid: one.phone for one in page if one.lid in chats and one.phone in chats}
        return found

    async def _is_same(self, one: str, other: str, largest_rows: int) -> bool:
        """Whether WAHA lists both ids as one chat: two lists have no message in common."""
        ids = await self._first_ids(one, largest_rows)
        return bool(ids) and not ids.isdisjoint(await self._first_ids(other, largest_rows))

    async def _first_ids(self, chat: str, largest_rows: int) -> set[str]:
        return {row.id for row in await self._page(self._from(self._claimed.since_s, largest_rows), chat) if row.id}

    def _from(self, since_s: int, largest_rows: int) -> Walk:
        claimed = self._claimed
        return Walk(since_s, claimed.until_s, min(claimed.page_rows or largest_rows, largest_rows), largest_rows)

    async def _walk(self, chat: str, largest_rows: int) -> set[str]:
        """Answers the ids of the first page, none of a walk that goes on in the middle."""
        claimed = self._claimed
        # Of several forms only the first one can go on in the middle; the others are walked from the beginning.
        resumed = claimed.cursor_s if chat == claimed.chat else None
        walk = self._from(claimed.since_s if resumed is None else resumed, largest_rows)
        first: set[str] | None = None if resumed is None else set()
        handing_over: asyncio.Task[None] | None = None  # the page before is published while the next one is fetched
        try:
            while not walk.done:
                started = time.monotonic()
                fresh = walk.take(await self._page(walk, chat), time.monotonic() - started)
                first = {row.id for row in fresh if row.id} if first is None else first
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
        return first or set()

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
        ids = ids_of(rows)
        keys = keys_of(ids, await self._state.hash_key())
        new = len(keys) - await self._state.known(self._claimed.session, keys)
        await self._publish(self._wrapper.messages(rows, ids))
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
