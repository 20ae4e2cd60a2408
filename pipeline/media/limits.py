"""Limits of downloads: memory that they take together, and servers that are left alone while they are away."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from pipeline import metrics
from pipeline.retry import backoff_s
from pipeline.s3 import PART_BYTES

_MOST_BYTES = 2 * PART_BYTES  # one part on its way to the store, one that is being filled
_FAILURES = 3  # in a row: one answer of a server that is restarted is no outage
_FORGOTTEN_S = 120.0  # a server that is tried fails again within 45 s: 30 s of silence, 10 s until the next try


class Memory:
    """Bytes that downloads may hold together. First come, first served; a large file takes no more than two parts."""

    def __init__(self, limit_bytes: int) -> None:
        self._free = limit_bytes
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def reserved(self, expected_bytes: int | None) -> AsyncIterator[None]:
        """For a file of about so many bytes; None: nobody knows."""
        share = _MOST_BYTES if expected_bytes is None else min(_MOST_BYTES, expected_bytes + 1)
        await self._take(share)
        metrics.MEDIA_IN_FLIGHT_BYTES.inc(share)
        try:
            yield
        finally:
            metrics.MEDIA_IN_FLIGHT_BYTES.dec(share)
            self._free += share
            self._wake()

    async def _take(self, share: int) -> None:
        if not self._waiting and share <= self._free:
            self._free -= share
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((share, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._free += share
            self._waiting = deque(w for w in self._waiting if w[1] is not turn)
            self._wake()
            raise

    def _wake(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free:
            share, turn = self._waiting.popleft()
            if not turn.cancelled():
                self._free -= share
                turn.set_result(None)


class Away:
    """Whom not to ask for a while: after some failures in a row, longer each time, one success ends it. A probe that
    went well lets requests through again, and no more: what follows may fail all the same."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: dict[str, int] = {}
        self._until: dict[str, float] = {}
        self._times: dict[str, int] = {}  # so often it was left alone since it answered
        self._failed_at: dict[str, float] = {}

    def failed(self, who: str) -> None:
        """`who` did not answer as it should."""
        if self._is_forgotten(who):
            self.answered(who)
        count = self._failures[who] = self._failures.get(who, 0) + 1
        self._failed_at[who] = self._clock()
        if count >= _FAILURES and not self.blocked(who):
            times = self._times[who] = self._times.get(who, 0) + 1
            self._until[who] = self._clock() + backoff_s(times + 2)

    def answered(self, who: str) -> None:
        """`who` is there."""
        self.probed(who)
        self._times.pop(who, None)

    def probed(self, who: str) -> None:
        """`who` answered a probe."""
        self._failures.pop(who, None)
        self._until.pop(who, None)

    def blocked(self, who: str) -> bool:
        """True while it is left alone."""
        return self._clock() < self._until.get(who, 0.0)

    def trying(self, who: str) -> bool:
        """True while it failed too often: one request is enough to see whether it is back. Not for ever: when nobody
        wants anything of it, nobody sees."""
        return self._failures.get(who, 0) >= _FAILURES and not self._is_forgotten(who)

    def _is_forgotten(self, who: str) -> bool:
        return self._clock() - self._failed_at.get(who, self._clock()) > _FORGOTTEN_S
