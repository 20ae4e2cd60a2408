"""Dead letters: the record as it was, on a topic of its consumer's own, with where it stood and why it cannot be stored.

A redriven record that dies again keeps the place of its first record and its history.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import Protocol

from pipeline import metrics
from pipeline.batch import Dead
from pipeline.broker import Headers
from pipeline.errors import PoisonError
from schemas.deadletters import PREFIX, Death, death_headers, read_death
from schemas.topics import REDRIVE_PREFIX, dead_letter_topic

_DEADLINE_S = 5.0  # a transaction waits meanwhile, see pipeline.postgres
_MAX_KEY_BYTES = 1024
_VERSION = version("wapipe")


class Outlet(Protocol):
    """Where dead letters go: pipeline.broker.Publisher, or what only counts them."""

    async def publish(self, topic: str, key: bytes, value: bytes, headers: Headers, *, deadline_s: float) -> None:
        """Returns when the letter is safe. Raises TransientError, or PoisonError when it is too large."""


async def publish_all(publisher: Outlet, consumer: str, dead: Sequence[Dead]) -> None:
    """Returns when the broker has them all. At once, because a transaction is open meanwhile and the server ends it when it
    waits too long. Raises TransientError: then no offset of theirs must move."""
    results = await asyncio.gather(*(publish_dead(publisher, consumer, d) for d in dead), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result


async def publish_dead(publisher: Outlet, consumer: str, dead: Dead) -> None:
    """Returns when the broker has the dead letter. Raises TransientError: then the record's offset must not move."""
    record = dead.record
    death = death_of(consumer, dead, time.time_ns() // 1_000_000)
    origin: Headers = [(n, v) for n, v in record.headers if v is not None and not n.startswith(PREFIX)]
    key = record.key or f"{death.topic}-{death.partition}-{death.offset}".encode()
    headers = [*origin, *death_headers(death)]
    topic, value = dead_letter_topic(consumer).name, record.value or b""
    try:
        await publisher.publish(topic, key, value, headers, deadline_s=_DEADLINE_S)
    except PoisonError:  # as large as the broker takes, and now with more headers: the body stays in its own topic only
        headers = [*death_headers(death), ("dead-body-left-out-bytes", b"%d" % len(value))]
        await publisher.publish(topic, key[:_MAX_KEY_BYTES], b"", headers, deadline_s=_DEADLINE_S)
    metrics.DEAD.labels(consumer, metrics.known(death.reason, metrics.DEAD_REASONS)).inc()


def death_of(consumer: str, dead: Dead, now_ms: int) -> Death:
    """What the letter's headers say. Only a record of the redrive topic has died before."""
    error, place = dead.error, dead.place
    death = Death(
        consumer, place.topic, place.partition, place.offset, dead.record.timestamp or 0, now_ms,
        error.reason, error.detail, type(error.__cause__ or error).__name__, _VERSION,
        "write" if dead.batch_records else "decode", dead.batch_records, dead.halvings,
    )  # fmt: skip
    earlier = read_death(dead.record.headers) if place.topic.startswith(REDRIVE_PREFIX) else None
    return death if earlier is None else death.after(earlier)
