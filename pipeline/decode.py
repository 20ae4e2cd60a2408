"""The first stage of a batch: records into facts, each on its own; a bad one is set aside with its reason."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from aiokafka import TopicPartition

from pipeline.batch import Batch, Dead, Tally, read_headers
from pipeline.consumer import Consumer, is_wanted
from pipeline.errors import PoisonError, WapipeError
from schemas.errors import MalformedError
from schemas.reading import UnreadableError

log = logging.getLogger("wapipe.decode")
F = TypeVar("F")


def decode_record(consumer: Consumer[F], record: Any, topic: str, tally: Tally, batch: Batch[F]) -> None:
    """Puts the record into the batch as a fact, as a dead letter, or as one more that is skipped by name.

    `topic` is the record's without the installation's prefix.
    """
    event = read_headers(record, topic)
    tally.records += 1
    if not is_wanted(consumer, event.event):
        tally.skipped[event.event] += 1
        return
    try:
        fact = consumer.decode(event)
    except (MalformedError, UnreadableError) as exc:
        error = PoisonError(exc.reason, getattr(exc, "field", ""))
        error.__cause__ = exc
        batch.dead.append(Dead(event.place, record, error))
        return
    except MemoryError:
        raise
    except Exception as exc:  # decoding is pure: whatever else it raises it raises of this record every time
        error = PoisonError("decode_failed", type(exc).__name__)
        error.__cause__ = exc
        log.exception("decode.failed", extra={"topic": topic, "offset": record.offset})
        batch.dead.append(Dead(event.place, record, error))
        return
    batch.facts.append(fact)
    batch.places.append(event.place)
    batch.records.append(record)


class Span(NamedTuple):
    """First and last offset of a partition's records in one fetch, and the time of the first (0: unknown)."""

    first: int
    last: int
    timestamp_ms: int = 0

    def tally(self) -> Tally:
        """With nothing counted yet."""
        return Tally(self.first, self.last + 1, self.timestamp_ms)


class SentBackError(WapipeError):
    """The consumer was sent back (a rebalance, a rewind) while the batch was fetched: it has records twice."""


def spans_of(records: Sequence[Any]) -> dict[TopicPartition, Span]:
    """By partition, whose records come in order. Raises SentBackError when they do not."""
    spans: dict[TopicPartition, Span] = {}
    first = last = records[0]
    for record in islice(records, 1, None):
        if record.partition != last.partition or record.offset <= last.offset or record.topic != last.topic:
            _widen(spans, first, last)
            first = record
        last = record
    _widen(spans, first, last)
    return spans


def _widen(spans: dict[TopicPartition, Span], first: Any, last: Any) -> None:
    tp = TopicPartition(first.topic, first.partition)
    known = spans.get(tp)
    if known is not None and first.offset <= known.last:
        raise SentBackError
    spans[tp] = (
        known._replace(last=last.offset) if known else Span(first.offset, last.offset, max(0, first.timestamp or 0))
    )
