"""A limit of records a second: a token bucket that holds one second's worth."""

from __future__ import annotations

import time
from collections.abc import Callable


class Pace:
    """Says how long to wait. `clock` in seconds; `rate_per_s` above 0."""

    def __init__(self, rate_per_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._clock = rate_per_s, clock
        self._tokens, self._at = rate_per_s, clock()

    def delay_s(self, records: int) -> float:
        """Takes so many tokens; the records may pass after this delay."""
        now = self._clock()
        self._tokens = min(self._rate, self._tokens + (now - self._at) * self._rate) - records
        self._at = now
        return max(0.0, -self._tokens / self._rate)
