"""The small pure parts around the runner: spans of a fetch, security in FastStream's words, back-off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import pytest
from aiokafka import TopicPartition
from faststream.security import BaseSecurity, SASLPlaintext, SASLScram256, SASLScram512

from pipeline.batch import Batch, Event, Tally
from pipeline.broker import client_options
from pipeline.consumer import Consumer
from pipeline.decode import SentBackError, Span, decode_record, spans_of
from pipeline.retry import MAX_BACKOFF_S, backoff_s
from pipeline.settings import load_settings
from pipeline.stream import security_of


@dataclass(frozen=True)
class Record:
    topic: str
    partition: int
    offset: int
    timestamp: int | None = None


def test_spans_have_the_first_and_last_offset_of_each_partition() -> None:
    records = (
        Record("a", 0, 5, 1000), Record("a", 0, 6, 900), Record("a", 1, 0, -1), Record("b", 1, 9), Record("a", 0, 7, 1100),
    )  # fmt: skip
    assert spans_of(records) == {
        TopicPartition("a", 0): Span(5, 7, 1000),
        TopicPartition("a", 1): Span(0, 0),
        TopicPartition("b", 1): Span(9, 9),
    }


@pytest.mark.parametrize("offsets", [(5, 6, 5, 6), (5, 5), (6, 5)])
@pytest.mark.parametrize("between", [False, True], ids=["next to each other", "with another partition between"])
def test_offsets_that_come_again_are_told(offsets: tuple[int, ...], between: bool) -> None:
    records = []
    for offset in offsets:
        records.append(Record("a", 0, offset))
        if between:
            records.append(Record("a", 1, len(records)))
    with pytest.raises(SentBackError):
        spans_of(records)


@pytest.mark.parametrize(
    ("mechanism", "kind"),
    [("PLAIN", SASLPlaintext), ("SCRAM-SHA-256", SASLScram256), ("SCRAM-SHA-512", SASLScram512)],
)
@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL"])
def test_a_login_reaches_the_consumer(mechanism: str, kind: type[BaseSecurity], protocol: str) -> None:
    kafka = load_settings(
        {
            "WAPIPE_KAFKA_SECURITY_PROTOCOL": protocol, "WAPIPE_KAFKA_SASL_MECHANISM": mechanism,
            "WAPIPE_KAFKA_SASL_USERNAME": "ana", "WAPIPE_KAFKA_SASL_PASSWORD": "a secret of its own",
        }
    ).kafka  # fmt: skip
    security = security_of(client_options(kafka))
    assert type(security) is kind
    assert isinstance(security, SASLPlaintext | SASLScram256 | SASLScram512)
    assert (security.username, security.password) == ("ana", "a secret of its own")
    assert security.use_ssl is (protocol == "SASL_SSL")


def test_a_plain_broker_needs_no_security_and_ssl_brings_its_context() -> None:
    assert security_of(client_options(load_settings({}).kafka)) is None
    tls = security_of(client_options(load_settings({"WAPIPE_KAFKA_SECURITY_PROTOCOL": "SSL"}).kafka))
    assert tls is not None
    assert tls.ssl_context is not None


def test_back_off_grows_and_ends() -> None:
    delays = [backoff_s(n) for n in range(1, 60)]
    assert delays[0] < 0.25
    assert max(delays) <= MAX_BACKOFF_S
    assert min(delays[10:]) >= MAX_BACKOFF_S / 2


class Stumbling:
    """A consumer whose decode raises whatever it is given."""

    events = frozenset({"any"})

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def decode(self, event: Event) -> str:
        raise self.error


@dataclass(frozen=True)
class Received:
    offset: int = 7
    partition: int = 0
    timestamp: int = 0
    value: bytes = b""
    headers: tuple[tuple[str, bytes], ...] = (("event", b"any"),)


@pytest.mark.parametrize("error", [ValueError(), RuntimeError(), AssertionError(), RecursionError(), StopIteration()])
def test_whatever_decoding_raises_is_a_dead_letter(error: Exception) -> None:
    """Else one record would be fetched again for ever."""
    batch: Batch[str] = Batch(0)
    decode_record(cast(Consumer[str], Stumbling(error)), Received(), "t", Tally(7, 8), batch)
    [dead] = batch.dead
    assert (dead.place.offset, dead.error.reason, dead.error.detail) == (7, "decode_failed", type(error).__name__)


def test_memory_that_is_short_is_no_dead_letter() -> None:
    batch: Batch[str] = Batch(0)
    with pytest.raises(MemoryError):
        decode_record(cast(Consumer[str], Stumbling(MemoryError())), Received(), "t", Tally(7, 8), batch)
    assert batch.dead == []
