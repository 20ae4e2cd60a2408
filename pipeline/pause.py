"""Why a consumer stands still. Several of its stages can wait at once, each for something else; this keeps them apart.

Owns the gauge wapipe_paused and the answer of /ready. Waits for nothing itself.
"""

from __future__ import annotations

import logging
from typing import Literal

from pipeline import metrics

log = logging.getLogger("wapipe.pause")

Stage = Literal[
    "start", "fetch", "align", "take", "prepare", "write", "lag", "flood", "member", "jobs", "store", "download"
]
# Stages of downloads, which run beside the consumer: records are read and stored while these wait.
_BESIDE: frozenset[Stage] = frozenset({"jobs", "store", "download"})

# What /ready says of reasons that are no dependency.
_ANSWERS = {"flood": "dead_letter_flood", "instance_id": "instance_id_taken"}


class Pauses:
    """Of one consumer process."""

    def __init__(self, consumer: str) -> None:
        self._name = consumer
        self._held: dict[Stage, str] = {}

    def retry(self, stage: Stage, dependency: str, exc: Exception) -> None:
        """`stage` tries again because `dependency` is away."""
        metrics.RETRIES.labels(self._name, dependency).inc()
        self.hold(stage, dependency, exc)

    def hold(self, stage: Stage, reason: str, detail: object = "") -> None:
        """`stage` waits because of `reason`: a dependency, `bug`, `flood` or `instance_id`."""
        before = self._held.get(stage)
        if before == reason:
            return
        self._held[stage] = reason
        metrics.PAUSED.labels(self._name, reason).set(1)
        self._settle(before)
        what = {"consumer": self._name, "stage": stage, "reason": reason, "detail": str(detail)[:300]}
        log.warning("consumer.paused", extra=what)

    def release(self, stage: Stage) -> None:
        """`stage` goes on."""
        reason = self._held.pop(stage, None)
        if reason is None:
            return
        self._settle(reason)
        log.info("consumer.resumed", extra={"consumer": self._name, "stage": stage, "reason": reason})

    def __bool__(self) -> bool:
        return bool(self._held)

    @property
    def stops_reading(self) -> bool:
        """True when a stage waits without which no record is read: not downloads."""
        return not self._held.keys() <= _BESIDE

    def answer(self) -> str | None:
        """For /ready: what was held first; None when nothing is."""
        reason = next(iter(self._held.values()), None)
        return None if reason is None else _ANSWERS.get(reason, f"{reason}_away")

    def _settle(self, reason: str | None) -> None:
        """The gauge of a reason that no stage has any more falls."""
        if reason is not None and reason not in self._held.values():
            metrics.PAUSED.labels(self._name, reason).set(0)
