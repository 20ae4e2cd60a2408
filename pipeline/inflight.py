"""Which batches of a consumer are in memory, for those who must wait until none is (rebalances, the drain, first batches), and
in which order those that are staged side by side are stored.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

WRITERS = 2  # one batch is copied into its stages while the one before is merged
Turn = Callable[[], Awaitable[None]]


class GivenUpError(Exception):
    """The batch is left on purpose: shutdown, or its partitions go to somebody else. Nothing of it is committed."""


class SupersededError(Exception):
    """A batch before this one was dropped, and this one with it."""


class InFlight:
    """`idle` is set while no batch is anywhere, `flushed` while no writer has one (one may still be decoded), `room` while a
    writer is free."""

    def __init__(self) -> None:
        self.idle, self.flushed, self.room = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._passed = asyncio.Event()  # the turn of the last batch that a writer took
        self._passed.set()
        self._taking = False
        self._handed_over = 0
        self._settle()

    @contextlib.contextmanager
    def taking(self) -> Iterator[None]:
        """A batch is being decoded and prepared within the block."""
        self._taking = True
        self._settle()
        try:
            yield
        finally:
            self._taking = False
            self._settle()

    def handed_over(self) -> None:
        """The writers get one more."""
        self._handed_over += 1
        self._settle()

    @contextlib.asynccontextmanager
    async def writing(self, is_wanted: Callable[[], bool]) -> AsyncIterator[Turn]:
        """A writer has the next one. Its turn comes when all before it are done with, stored or dropped; then it raises
        SupersededError when it is not wanted any more. When the block ends it is done with as well, and not before them."""
        before, self._passed = self._passed, asyncio.Event()
        passed = self._passed

        async def turn() -> None:
            await before.wait()
            if not is_wanted():
                raise SupersededError

        try:
            yield turn
            await before.wait()
        finally:
            passed.set()
            self._handed_over -= 1
            self._settle()

    def _settle(self) -> None:
        for event, holds in (
            (self.room, self._handed_over < WRITERS),
            (self.flushed, self._handed_over == 0),
            (self.idle, self._handed_over == 0 and not self._taking),
        ):
            event.set() if holds else event.clear()
