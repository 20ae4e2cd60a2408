"""The writer over a real database: bad records alone are dead-lettered, redelivery is free, an outage is no bad record."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import replace
from typing import Any

import pytest

from pipeline.batch import Partition
from pipeline.broker import Headers
from pipeline.errors import PoisonError, TransientError
from pipeline.postgres import open_pool
from pipeline.settings import DatabaseSettings
from pipeline.write import MisalignedError
from schemas.normalize.message import to_content
from schemas.reading import UnreadableError
from schemas.topics import MESSAGE, RECEIPT
from schemas.webhook import parse_body
from tests.golden.messages import deliveries
from tests.integration.written import (
    Desk,
    Record,
    accounts,
    batch_of,
    message,
    new_desk,
    numbered,
    rows,
    texts,
)

P0 = Partition(MESSAGE.name, 0)
P1 = Partition(MESSAGE.name, 1)


# ---------------------------------------------------------------- bad records
BAD = {
    "NUL in a text": {"body": "a\x00b"},
    "NUL in an id": {"raw_id": "a\x00b"},
    "NUL in a jid": {"sender": "a\x00b@c.us"},
    "NUL in JSON": {"extra": '{"a":"\\u0000"}'},
    "a lone surrogate": {"body": "a\ud83d"},
    "a lone surrogate in a jid": {"chat": "a\ud83d@c.us"},
    "no JSON": {"extra": "{"},
    "a time beyond timestamps": {"ts_ms": 10**17},
    "a time beyond bigint": {"ts_ms": 2**70},
    "a wrong type": {"ts_ms": "today"},
    "null in a column that has none": {"type": None},
    "a chat beyond the index": {"chat": "".join(random.Random(1).choices("abcdefghijkl0123456789", k=9000))},
}


@pytest.mark.parametrize("spoilt", BAD.values(), ids=list(BAD))
async def test_a_bad_record_among_a_thousand_is_dead_lettered_alone(
    desk: Desk, session: str, spoilt: dict[str, Any]
) -> None:
    records = texts(1000, session, partitions=3)
    records[617] = replace(records[617], spoilt=spoilt)
    bad = records[617]
    await desk.store(records)
    stored = {r["raw_id"] for r in await rows(desk.pool, session)}
    assert stored == {f"A{n}" for n in range(1000) if n != 617}
    [letter] = desk.published.records
    assert (letter.topic, letter.key, letter.value) == (f"wapipe.dead.{desk.consumer.name}", bad.key, bad.value)
    headers = dict(letter.headers)
    assert (headers["dead-topic"], headers["dead-partition"], headers["dead-offset"]) == (
        MESSAGE.name.encode(), b"%d" % bad.partition, b"%d" % bad.offset,
    )  # fmt: skip
    assert headers["dead-reason"] in (b"refused_by_database", b"not_encodable")
    assert headers["event"] == b"message"
    assert await desk.books() == {"records": 1000, "written": 999, "dead": 1}


async def test_several_bad_records_and_only_these(desk: Desk, session: str) -> None:
    records = texts(300, session, partitions=2)
    bad = {0, 1, 7, 150, 151, 298, 299}
    records = [replace(r, spoilt={"body": "\x00"}) if n in bad else r for n, r in enumerate(records)]
    await desk.store(records)
    assert {r.value for r in desk.published.records} == {records[n].value for n in bad}
    assert await desk.books() == {"records": 300, "written": 293, "dead": 7}
    assert len(await rows(desk.pool, session)) == 293


async def test_nothing_but_bad_records(desk: Desk, session: str) -> None:
    await desk.store([replace(r, spoilt={"raw_id": "\x00"}) for r in texts(5, session)])
    assert await desk.books() == {"records": 5, "dead": 5}
    assert (len(desk.published.records), await rows(desk.pool, session)) == (5, [])


async def test_what_cannot_be_read_is_dead_lettered_with_its_reason(desk: Desk, session: str) -> None:
    bodies = [b"no json", b"[]", b'{"event":"message","session":"s"}', message("A1", session=session)]
    await desk.store(numbered(Record(b) for b in bodies))
    reasons = [dict(r.headers)["dead-reason"] for r in desk.published.records]
    assert reasons == [b"not_json", b"not_an_object", b"payload_missing"]
    assert await desk.books() == {"records": 4, "written": 1, "dead": 3}


async def test_the_message_behind_a_bad_content_comes_with_the_next_one(desk: Desk, session: str) -> None:
    """A dead letter leaves nothing behind: no key, no half of a row."""
    [first, second] = texts(2, session)
    await desk.store([replace(first, spoilt={"ts_ms": 10**17})])
    await desk.store([replace(second, value=first.value)])
    assert [r["raw_id"] for r in await rows(desk.pool, session)] == ["A0"]
    assert await desk.books() == {"records": 2, "written": 1, "dead": 1}


@pytest.mark.parametrize("seed", range(3))
async def test_everything_that_is_read_from_odd_bodies_can_be_stored(desk: Desk, seed: int) -> None:
    """Recorded bodies with one place changed: a fact that the normaliser lets through is never refused by the database."""
    print(f"seed {seed}")
    rng = random.Random(seed)
    sources = [d.body for d in deliveries() if d.event in ("message", "message.any")]
    records = numbered(Record(mutated(rng, rng.choice(sources)), partition=rng.randrange(3)) for _ in range(500))
    refused = sum(not is_readable(r.value) for r in records)
    await desk.store(records)
    assert 0 < refused < 250
    assert (await desk.books())["dead"] == refused


def is_readable(body: bytes) -> bool:
    try:
        to_content(parse_body(body), "default", 0)
    except (UnreadableError, ValueError):
        return False
    return True


ODD: list[Any] = [
    None, True, 0, -1, 1e300, float("nan"), 10**30, "", "\x00", "a\x00b", "\ud83d", "x" * 3000, [], {}, ["\x00"],
    {"\x00": "\ud83d"}, {"id": "\x00"}, "@", "false_1@c.us_A\x00", "1" * 250 + "@c.us", "\ud83d@g.us",
]  # fmt: skip


def mutated(rng: random.Random, body: bytes) -> bytes:
    """The body with one place holding an odd value, as JavaScript would write it."""
    whole = json.loads(body)
    place, key = whole, rng.choice(list(whole))
    while isinstance(place[key], dict) and place[key] and rng.random() < 0.8:
        place = place[key]
        key = rng.choice(list(place))
    place[key] = rng.choice(ODD)
    return json.dumps(whole).encode()


# ---------------------------------------------------------------- redelivery and gaps
async def test_a_redelivered_batch_changes_nothing(desk: Desk, session: str) -> None:
    records = texts(50, session, partitions=3)
    records[4] = replace(records[4], spoilt={"body": "\x00"})
    await desk.store(records)
    before = await desk.books(), await desk.next_offsets(), await rows(desk.pool, session)
    await desk.store(records)
    await desk.store(records[20:])
    assert (await desk.books(), await desk.next_offsets(), await rows(desk.pool, session)) == before
    assert len(desk.published.records) == 1  # its dead letter was published once


async def test_the_new_partitions_of_a_redelivered_batch_are_stored(desk: Desk, session: str) -> None:
    """And nothing of the others a second time: no row, no count, no dead letter."""
    records = texts(40, session, partitions=2)
    for n in (4, 5):  # one in each partition
        records[n] = replace(records[n], value=b"no json")
        records[n + 10] = replace(records[n + 10], spoilt={"body": "\x00"})
    await desk.store([r for r in records if r.partition == 0])
    await desk.store(records)
    found = await accounts(desk.pool, desk.consumer.name)
    assert {p: (a.written, a.dead) for p, a in found.items()} == {P0: (18, 2), P1: (18, 2)}
    assert len(await rows(desk.pool, session)) == 36
    assert len(desk.published.records) == 4


@pytest.mark.parametrize(
    ("first", "then"),
    [
        pytest.param((0, 10), (5, 15), id="partly redelivered"),
        pytest.param((0, 10), (9, 11), id="one record too many"),
        pytest.param((0, 10), (11, 15), id="a record is missing"),
        pytest.param((5, 10), (0, 15), id="more than what is stored"),
    ],
)
async def test_a_batch_that_does_not_follow_is_refused(
    desk: Desk, session: str, first: tuple[int, int], then: tuple[int, int]
) -> None:
    records = texts(20, session)
    await desk.store(records[slice(*first)])
    before = await desk.books(), await rows(desk.pool, session)
    with pytest.raises(MisalignedError) as caught:
        await desk.store(records[slice(*then)])
    assert caught.value.stored == {P0: first[1]}
    assert (await desk.books(), await rows(desk.pool, session)) == before
    await desk.store(records[first[1] : 20])
    assert await desk.next_offsets() == {P0: 20}


async def test_one_partition_that_does_not_follow_refuses_the_whole_batch(desk: Desk, session: str) -> None:
    records = texts(40, session, partitions=2)
    await desk.store([r for r in records if r.offset < 5])
    with pytest.raises(MisalignedError) as caught:
        await desk.store([r for r in records if r.offset >= (5 if r.partition else 7)])
    assert caught.value.stored == {P0: 5}
    assert await desk.next_offsets() == {P0: 5, P1: 5}
    assert len(await rows(desk.pool, session)) == 10


async def test_offsets_that_the_broker_no_longer_has_are_a_gap(desk: Desk, session: str) -> None:
    records = texts(100, session)
    await desk.store(records[:10])
    await desk.writer.pass_over({P0: (10, 60)})
    await desk.store(records[60:70])
    account = (await accounts(desk.pool, desk.consumer.name))[P0]
    assert (account.first_offset, account.next_offset, account.records, account.gap) == (0, 70, 20, 50)
    assert len(await rows(desk.pool, session)) == 20


async def test_only_what_comes_next_is_passed_over(desk: Desk, session: str) -> None:
    records = texts(100, session)
    await desk.store(records[:10])
    for first in (9, 11):
        with pytest.raises(MisalignedError) as caught:
            await desk.writer.pass_over({P0: (first, 60)})
        assert caught.value.stored == {P0: 10}
    await desk.writer.pass_over({P0: (10, 60), P1: (5, 8)})
    with pytest.raises(MisalignedError):
        await desk.store(records[61:70])
    assert await desk.next_offsets() == {P0: 60, P1: 8}
    assert await desk.books() == {"records": 10, "written": 10, "gap": 53}


async def test_holes_inside_a_batch_are_a_gap(desk: Desk, session: str) -> None:
    """Transaction markers and compaction leave offsets without records."""
    records = texts(10, session)
    await desk.store([records[0], records[3], records[9]])
    assert await desk.books() == {"records": 3, "written": 3, "gap": 7}
    assert await desk.next_offsets() == {P0: 10}


async def test_a_new_partition_starts_where_its_first_batch_does(desk: Desk, session: str) -> None:
    await desk.store(texts(10, session)[4:])
    account = (await accounts(desk.pool, desk.consumer.name))[P0]
    assert (account.first_offset, account.next_offset, account.gap) == (4, 10, 0)


async def test_what_is_not_wanted_is_counted_by_name(desk: Desk, session: str) -> None:
    events = ["message", "message.ack", "message.ack", "presence.update", "message.pinned", ""]
    await desk.store(numbered(Record(message("A1", session=session), event, RECEIPT.name) for event in events))
    assert await desk.books() == {"records": 6, "written": 1, "skipped": 5}
    sql = "SELECT event, records FROM whatsapp_gateway.progress_skipped WHERE consumer = $1"
    skipped = {r["event"]: r["records"] for r in await desk.pool.fetch(sql, desk.consumer.name)}
    assert skipped == {"message.ack": 2, "presence.update": 1, "message.pinned": 1, "": 1}


# ---------------------------------------------------------------- outages
@pytest.mark.parametrize("where", ["unreadable", "refused by the database"])
async def test_a_dead_letter_that_is_not_acknowledged_rolls_everything_back(
    desk: Desk, session: str, where: str
) -> None:
    records = texts(20, session)
    records[7] = (
        replace(records[7], value=b"no json") if where == "unreadable" else replace(records[7], spoilt={"body": "\x00"})
    )
    desk.published.error = TransientError("kafka", "away")
    for _ in range(2):
        with pytest.raises(TransientError):
            await desk.store(records)
        assert (await desk.books(), await desk.next_offsets(), await rows(desk.pool, session)) == ({}, {}, [])
    desk.published.error = None
    await desk.store(records)
    assert await desk.books() == {"records": 20, "written": 19, "dead": 1}
    assert (len(desk.published.records), len(await rows(desk.pool, session))) == (1, 19)


async def test_the_dead_letters_of_a_batch_are_sent_at_once(desk: Desk, session: str) -> None:
    """One after the other they would take longer than the server lets a transaction wait."""
    desk.published.gate = asyncio.Event()
    storing = asyncio.create_task(desk.store([replace(r, value=b"no json") for r in texts(50, session)]))
    for _ in range(50):
        await desk.published.arrivals.get()
    assert (desk.published.records, storing.done()) == ([], False)
    desk.published.gate.set()
    await storing
    assert await desk.books() == {"records": 50, "dead": 50}


async def test_a_record_that_is_too_large_for_a_dead_letter_leaves_its_body_where_it_is(
    desk: Desk, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = texts(3, session)
    records[1] = replace(records[1], value=b"x" * 1000)
    publish = desk.published.publish

    async def limited(topic: str, key: bytes, value: bytes, headers: Headers, *, deadline_s: float) -> None:
        if len(value) > 900:
            raise PoisonError("too_large_for_broker", "said the test")
        await publish(topic, key, value, headers, deadline_s=deadline_s)

    monkeypatch.setattr(desk.published, "publish", limited)
    await desk.store(records)
    [letter] = desk.published.records
    headers = dict(letter.headers)
    assert (letter.value, headers["dead-body-left-out-bytes"], headers["dead-offset"]) == (b"", b"1000", b"1")
    assert await desk.books() == {"records": 3, "written": 2, "dead": 1}


async def test_a_database_that_goes_away_is_no_bad_record(database: DatabaseSettings, session: str) -> None:
    pool = await open_pool(database, name="closing")
    desk = new_desk(pool)
    batch = batch_of(desk.consumer, texts(20, session))
    batch.prepared = await desk.writer.prepare(batch.facts)
    await pool.close()
    with pytest.raises(TransientError):
        await desk.writer.store(batch)
    assert desk.published.records == []
