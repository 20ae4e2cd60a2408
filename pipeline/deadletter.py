"""Dead letters: the record as it was, on a topic of its consumer's own, with where it stood and why it cannot be stored."""

from __future__ import annotations

import time
from importlib.metadata import version

from pipeline import metrics
from pipeline.batch import Dead
from pipeline.broker import Headers, Publisher
from schemas.topics import dead_letter_topic
from schemas.webhook import to_header

_DEADLINE_S = 10.0
_VERSION = version("wapipe").encode()


async def publish_dead(publisher: Publisher, consumer: str, dead: Dead) -> None:
    """Returns when the broker has the dead letter. Raises TransientError: then the record's offset must not move."""
    record, place, error = dead.record, dead.place, dead.error
    origin: Headers = [(n, v) for n, v in record.headers if v is not None and not n.startswith("dead-")]
    headers: Headers = [
        *origin,
        ("dead-topic", place.topic.encode()),
        ("dead-partition", b"%d" % place.partition),
        ("dead-offset", b"%d" % place.offset),
        ("dead-at-ms", b"%d" % (time.time_ns() // 1_000_000)),
        ("dead-reason", to_header(error.reason)),
        ("dead-detail", to_header(error.detail)),
        ("dead-error", type(error.__cause__ or error).__name__.encode()),
        ("dead-consumer", consumer.encode()),
        ("dead-version", _VERSION),
    ]
    key = record.key or f"{place.topic}-{place.partition}-{place.offset}".encode()
    await publisher.publish(dead_letter_topic(consumer).name, key, record.value or b"", headers, deadline_s=_DEADLINE_S)
    metrics.DEAD.labels(consumer, error.reason).inc()
