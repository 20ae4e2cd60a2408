"""How long to wait before trying again."""

from __future__ import annotations

import random

MAX_BACKOFF_S = 10.0


def backoff_s(attempt: int) -> float:
    """Exponential from 0.1 s to MAX_BACKOFF_S, with jitter of half: many processes must not come back in step."""
    return min(MAX_BACKOFF_S, 0.1 * 2.0 ** min(attempt, 8)) * random.uniform(0.5, 1.0)  # noqa: S311
