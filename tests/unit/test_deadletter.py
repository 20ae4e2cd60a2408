"""A dead letter's headers, and what a redriven one is to its consumer: the record that it was where it stood first."""

from __future__ import annotations

from typing import Any, cast

from pipeline.batch import Dead, Place, read_headers
from pipeline.broker import Publisher
from pipeline.deadletter import publish_dead
from pipeline.errors import PoisonError
from schemas.deadletters import read_death
from schemas.topics import BACKFILL, MESSAGE, redrive_topic
from tests.integration.written import Record
from tests.unit.ingress_client import Remembering

REDRIVE = redrive_topic("messages").name


class Redriven(Record):
    """A record with headers of its own."""

    def __init__(self, headers: list[tuple[str, bytes]], **fields: Any) -> None:
        super().__init__(b"{}", **fields)
        object.__setattr__(self, "own", headers)

    @property
    def headers(self) -> list[tuple[str, bytes]]:
        return cast(list[tuple[str, bytes]], vars(self)["own"])


async def buried(record: Record, topic: str, **evidence: int) -> list[tuple[str, bytes]]:
    """The headers of its dead letter."""
    published = Remembering()
    dead = Dead(Place(topic, record.partition, record.offset), record, PoisonError("chat_missing", "id"), **evidence)
    await publish_dead(cast(Publisher, published), "messages", dead)
    [letter] = published.records
    assert letter.topic == "wapipe.dead.messages"
    return letter.headers


async def test_the_letter_says_where_the_record_stood_and_how_it_was_found() -> None:
    record = Record(b"{}", partition=3, offset=7, received_at_ms=1234)
    death = read_death(await buried(record, MESSAGE.name, batch_records=500, halvings=9))
    assert death is not None
    assert (death.consumer, death.topic, death.partition, death.offset) == ("messages", MESSAGE.name, 3, 7)
    assert (death.time_ms, death.reason, death.detail, death.error) == (1234, "chat_missing", "id", "PoisonError")
    assert (death.stage, death.batch_records, death.halvings, death.attempts) == ("write", 500, 9, 1)
    decoded = read_death(await buried(record, MESSAGE.name))
    assert decoded is not None
    assert decoded.stage == "decode"


async def test_only_a_redriven_record_has_died_before() -> None:
    """Headers of any other record are a sender's word."""
    first = await buried(Record(b"{}", offset=7), MESSAGE.name)
    again = read_death(await buried(Redriven(first, offset=0), REDRIVE))
    forged = read_death(await buried(Redriven(first, offset=9), MESSAGE.name))
    assert again is not None
    assert forged is not None
    assert (again.topic, again.offset, again.attempts, len(again.history)) == (MESSAGE.name, 7, 2, 1)
    assert (forged.offset, forged.attempts, forged.history) == (9, 1, ())


async def test_the_record_keeps_its_own_headers_through_every_death() -> None:
    headers = [("event", b"message"), ("received-at-ms", b"99"), ("x", b"\xff"), ("x", b"again")]
    found = await buried(Redriven(headers, offset=1), MESSAGE.name)
    found = await buried(Redriven(found, offset=2), REDRIVE)
    assert [h for h in found if not h[0].startswith("dead-")] == headers
    assert len({name for name, _ in found}) == len(found) - 1  # "x"


async def test_a_redriven_record_has_the_lane_and_the_time_of_its_origin() -> None:
    live = await buried(Record(b"{}", received_at_ms=1000), MESSAGE.name)
    history = await buried(Record(b"{}", received_at_ms=1000), BACKFILL.name)
    without_time = [h for h in history if h[0] != "received-at-ms"]
    for headers, backfill in ((live, False), (history, True), (without_time, True)):
        event = read_headers(Redriven(headers, offset=5, received_at_ms=9999), REDRIVE)
        assert (event.backfill, event.received_at_ms) == (backfill, 1000)
        assert event.place == Place(REDRIVE, 0, 5)


async def test_without_an_origin_a_record_of_the_redrive_topic_is_what_it_is() -> None:
    event = read_headers(Redriven([], received_at_ms=9999), REDRIVE)
    assert (event.backfill, event.received_at_ms, event.event) == (False, 9999, "")
