"""Which batches of a consumer are in memory, for those who must wait until none is (rebalances, the drain, gaps, a batch at which
a process died), and in which order those that are staged side by side are merged.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator

WRITERS = 3  # while one batch is committed, the next is merged, and the one after it copied into its stages


class GivenUpError(Exception):
    """The batch is left on purpose: shutdown, or its partitions go to somebody else. Nothing of it is committed."""


class SupersededError(Exception):
    """A batch before this one was dropped, and this one with it."""


class Turn:
    """When a batch may be merged, and the one after it: by itself that of a batch which is stored alone."""

    def __init__(self, before: asyncio.Event | None = None, is_wanted: Callable[[], bool] = lambda: True) -> None:
        self._before, self._is_wanted = before, is_wanted
        self.passed = asyncio.Event()

    async def come(self) -> None:
        """Returns when those before have passed theirs on. Raises SupersededError when the batch is not wanted any more."""
        await self.before()
        if not self._is_wanted():
            raise SupersededError

    async def before(self) -> None:
        """Returns when those before have passed theirs on."""
        if self._before is not None:
            await self._before.wait()

    def pass_on(self) -> None:
        """The next one may be merged: nothing but the commit is left to do, or the batch is dropped."""
        self.passed.set()

    def take_back(self) -> None:
        """The commit failed: who has not begun to merge waits until it is tried again."""
        self.passed.clear()


class InFlight:
    """`idle` is set while no batch is anywhere, `flushed` while no writer has one (one may still be decoded), `room` while a
    writer is free."""

    def __init__(self) -> None:
        self.idle, self.flushed, self.room = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._passed: asyncio.Event | None = None  # the turn of the batch that a writer took last
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
        """A writer has the next one. Its turn comes when all before it have passed theirs on; then it raises SupersededError
        when it is not wanted any more. When the block ends it has passed its own on, and not before them."""
        turn = Turn(self._passed, is_wanted)
        self._passed = turn.passed
        try:
            yield turn
            await turn.before()
        finally:
            turn.pass_on()
            self._handed_over -= 1
            self._settle()

    def _settle(self) -> None:
        for event, holds in (
            (self.room, self._handed_over < WRITERS),
            (self.flushed, self._handed_over == 0),
            (self.idle, self._handed_over == 0 and not self._taking),
        ):
            event.set() if holds else event.clear()
