"""Keeps away from a server that does not answer: opens after failures in a row, lets one request through to try again."""

from __future__ import annotations

import time
from collections.abc import Callable

_FAILURES = 5
_FIRST_S = 2.0
_LONGEST_S = 60.0


class Breaker:
    """Of one server. `blocked_s` before a request, `succeeded` or `failed` after it."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._opens_for_s = _FIRST_S
        self._closed_until = 0.0  # while open: when the next trial may go

    @property
    def is_open(self) -> bool:
        """True while requests are kept back, or only one is let through."""
        return self._failures >= _FAILURES

    def blocked_s(self) -> float:
        """0 when a request may go, else how long none may. While open one may go each time the wait is over."""
        if not self.is_open:
            return 0.0
        left = self._closed_until - self._clock()
        if left > 0:
            return left
        self._closed_until = self._clock() + self._opens_for_s  # this one is the trial
        return 0.0

    def succeeded(self) -> None:
        """The server answered, whatever it said."""
        self._failures, self._opens_for_s = 0, _FIRST_S

    def failed(self) -> None:
        """It could not be reached, or something else answered in its place."""
        self._failures += 1
        if self.is_open:
            self._closed_until = self._clock() + self._opens_for_s
            self._opens_for_s = min(_LONGEST_S, self._opens_for_s * 2)
