"""The first stage of a batch: records into facts, each on its own; a bad one is set aside with its reason."""

from __future__ import annotations

import logging
from typing import Any, TypeVar

from aiokafka import TopicPartition

from pipeline.batch import Batch, Dead, Tally, read_headers
from pipeline.consumer import Consumer
from pipeline.errors import PoisonError
from schemas.errors import MalformedError
from schemas.webhook import UnreadableError

log = logging.getLogger("wapipe.decode")
F = TypeVar("F")

# What a normaliser that meets something unforeseen may raise: the record is to blame, not the machine.
_UNFORESEEN = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError)


def decode_record(consumer: Consumer[F], record: Any, topic: str, tally: Tally, batch: Batch[F]) -> None:
    """Puts the record into the batch as a fact, as a dead letter, or as one more that is skipped by name.

    `topic` is the record's without the installation's prefix.
    """
    event = read_headers(record, topic)
    tally.records += 1
    if event.event not in consumer.events:
        tally.skipped[event.event] += 1
        return
    try:
        fact = consumer.decode(event)
    except (MalformedError, UnreadableError) as exc:
        error = PoisonError(exc.reason, getattr(exc, "field", ""))
        error.__cause__ = exc
        batch.dead.append(Dead(event.place, record, error))
        return
    except _UNFORESEEN as exc:
        error = PoisonError("decode_failed", type(exc).__name__)
        error.__cause__ = exc
        log.exception("decode.failed", extra={"topic": topic, "offset": record.offset})
        batch.dead.append(Dead(event.place, record, error))
        return
    batch.facts.append(fact)
    batch.places.append(event.place)
    batch.records.append(record)


def spans_of(records: tuple[Any, ...]) -> dict[TopicPartition, tuple[int, int]]:
    """First and last offset by partition; a partition's records come in order, one partition after the other."""
    spans: dict[TopicPartition, tuple[int, int]] = {}
    first = last = records[0]
    for record in records:
        if record.partition != last.partition or record.topic != last.topic:
            _widen(spans, first, last)
            first = record
        last = record
    _widen(spans, first, last)
    return spans


def _widen(spans: dict[TopicPartition, tuple[int, int]], first: Any, last: Any) -> None:
    tp = TopicPartition(first.topic, first.partition)
    spans[tp] = (spans[tp][0] if tp in spans else first.offset, last.offset)
