"""What a process has done and has yet to do, read from its /metrics: for `status` and the demo's table.

Tolerant: a process without the metric, or that does not answer, has no figure.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pipeline.local.http import fetch

# Counters of work done, the first that a process has; the gateway counts events, a consumer counts records.
_WORK = ("wapipe_records_total", "wapipe_ingress_events_total")
_LAG = "wapipe_lag_records"


@dataclass(frozen=True, slots=True)
class Reading:
    """`work` is a running total; `rate` is its rise per second since the reading before. None: not known."""

    work: float | None = None
    lag: float | None = None
    rate: float | None = None


class Meter:
    """Reads processes again and again and remembers the reading before."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._before: dict[int, tuple[float, float]] = {}

    async def read(self, port: int) -> Reading:
        """The process whose health is served on `port`."""
        code, text = await fetch(port, "/metrics")
        return self.take(port, text if code == 200 else "")

    def take(self, port: int, text: str) -> Reading:
        """A reading from the text of /metrics."""
        work = next((total for total in (total_of(text, name) for name in _WORK) if total is not None), None)
        return Reading(work, total_of(text, _LAG), self._rate(port, work))

    def _rate(self, port: int, work: float | None) -> float | None:
        before, now = self._before.pop(port, None), self._clock()
        if work is None:
            return None
        self._before[port] = now, work
        if before is None or now <= before[0] or work < before[1]:  # it was started again in between
            return None
        return (work - before[1]) / (now - before[0])


def total_of(text: str, name: str) -> float | None:
    """The sum of all series of metric `name` in Prometheus' text format; None if there is none."""
    values = list(_values(text.splitlines(), name))
    return sum(values) if values else None


def _values(lines: Iterable[str], name: str) -> Iterable[float]:
    for line in lines:
        if line.startswith((f"{name}{{", f"{name} ")):
            tokens = line.removeprefix(name).rpartition("}")[2].split()
            with contextlib.suppress(ValueError, IndexError):
                yield float(tokens[0])
