"""WAHA's rules for sending a webhook again, as of 2026.4.1: when, how often, and what Retry-After does to it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from random import Random
from typing import Literal

Policy = Literal["constant", "linear", "exponential"]


@dataclass(frozen=True, slots=True)
class Retry:
    """Everything but 2xx is tried again `attempts` times after the first try. The defaults are WAHA's."""

    policy: Policy = "constant"
    delay_s: float = 2.0
    attempts: int = 15

    def wait_s(self, n: int, retry_after_s: float, rng: Random) -> float:
        """Wait before the n-th retry, from 1. Retry-After is a minimum; exponential adds 0..20 %."""
        if self.policy == "exponential":
            delay: float = max(2**n * self.delay_s, retry_after_s)
            return delay * (1 + 0.2 * rng.random())
        return max(self.delay_s * (n if self.policy == "linear" else 1), retry_after_s)


WAHA_RETRY = Retry()


def parse_retry_after(value: str | None, now: datetime | None = None) -> float:
    """Seconds that a Retry-After header asks for, a number or an HTTP date; 0 if none, past or nonsense."""
    if not value:
        return 0.0
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        then = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    then = then if then.tzinfo else then.replace(tzinfo=UTC)
    return max(0.0, (then - (now or datetime.now(UTC))).total_seconds())
