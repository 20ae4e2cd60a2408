"""What a play of deliveries came to: counts, answers, latencies. Bounded memory however long it runs."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

_GROWTH = math.log(1.02)  # buckets of 2 %: the error of a quantile


class Latencies:
    """Durations in logarithmic buckets; quantiles are right to 2 %, the maximum is exact."""

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self.count = 0
        self.max_s = 0.0

    def add(self, seconds: float) -> None:
        """Counts one duration."""
        self._buckets[math.floor(math.log(max(seconds, 1e-6)) / _GROWTH)] += 1
        self.count += 1
        self.max_s = max(self.max_s, seconds)

    def quantile_ms(self, share: float) -> float:
        """The duration that `share` of all stay below; 0 without any."""
        left = math.ceil(share * self.count)
        for bucket in sorted(self._buckets):
            left -= self._buckets[bucket]
            if left <= 0:
                return min(math.exp((bucket + 1) * _GROWTH), self.max_s) * 1000
        return 0.0


@dataclass(slots=True)
class Report:
    """The outcome. sent = delivered + lost + unfinished; answers and errors count attempts with retries."""

    sent: int = 0  # deliveries begun
    delivered: int = 0  # ended with 2xx
    lost: int = 0  # given up after the last retry
    unfinished: int = 0  # still under way when the play was stopped
    attempts: int = 0  # requests
    retried: int = 0  # requests after the first of a delivery
    answers: Counter[int] = field(default_factory=Counter)  # by HTTP status
    errors: Counter[str] = field(default_factory=Counter)  # attempts without an answer, by kind
    events: Counter[str] = field(default_factory=Counter)  # deliveries begun, by event name
    latencies: Latencies = field(default_factory=Latencies)  # of answered attempts
    elapsed_s: float = 0.0

    @property
    def rate_per_s(self) -> float:
        """Deliveries begun per second."""
        return self.sent / self.elapsed_s if self.elapsed_s else 0.0

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        quantiles = {f"p{round(q * 100)}": round(self.latencies.quantile_ms(q), 2) for q in (0.5, 0.95, 0.99)}
        return {
            "sent": self.sent,
            "delivered": self.delivered,
            "lost": self.lost,
            "unfinished": self.unfinished,
            "attempts": self.attempts,
            "retried": self.retried,
            "answers": {str(status): n for status, n in sorted(self.answers.items())},
            "errors": dict(sorted(self.errors.items())),
            "events": dict(sorted(self.events.items())),
            "latency_ms": quantiles | {"max": round(self.latencies.max_s * 1000, 2)},
            "elapsed_s": round(self.elapsed_s, 3),
            "rate_per_s": round(self.rate_per_s, 1),
        }
