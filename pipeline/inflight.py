"""Which batches of a consumer are in memory, for those who must wait until none is: rebalances, the drain, first batches."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator


class InFlight:
    """`idle` is set while no batch is anywhere, `flushed` while the writer has none: one may still be decoded."""

    def __init__(self) -> None:
        self.idle, self.flushed = asyncio.Event(), asyncio.Event()
        self._taking = False
        self._handed_over = 0
        self._settle()

    @contextlib.contextmanager
    def taking(self) -> Iterator[None]:
        """A batch is being decoded and prepared within the block."""
        self._taking = True
        self.idle.clear()
        try:
            yield
        finally:
            self._taking = False
            self._settle()

    def handed_over(self) -> None:
        """The writer gets one more."""
        self._handed_over += 1
        self.idle.clear()
        self.flushed.clear()

    def left(self) -> None:
        """The writer is done with one, stored or dropped."""
        self._handed_over -= 1
        self._settle()

    def _settle(self) -> None:
        if self._handed_over == 0:
            self.flushed.set()
            if not self._taking:
                self.idle.set()
