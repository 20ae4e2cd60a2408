"""One message told several times, over a real database: any order, repetition, cut into batches and number of writers
gives the rows that the law of schemas/ gives, and the books come out even."""

from __future__ import annotations

import asyncio
import random
import secrets
from dataclasses import replace
from typing import Any, cast

import orjson
import pytest

from consumers.contacts import Contacts
from consumers.messages import Messages
from consumers.sessions import Sessions
from pipeline.batch import Partition, read_headers
from pipeline.broker import Publisher
from pipeline.postgres import Pool, open_pool
from pipeline.settings import DatabaseSettings
from pipeline.write import Writer
from schemas.facts import NameFact, SeenFact
from schemas.law import merge
from schemas.law.people import People, names_of
from schemas.topics import MESSAGE, SESSION
from tests.integration.written import (
    ANA,
    AT_MS,
    Desk,
    Record,
    accounts,
    expected_rows,
    message,
    new_desk,
    numbered,
    rows,
    sorted_rows,
    store,
    totals,
)
from tests.unit.ingress_client import Remembering

P0 = Partition(MESSAGE.name, 0)
P1 = Partition(MESSAGE.name, 1)


# ---------------------------------------------------------------- one message several times
async def test_the_same_message_several_times_in_a_batch(desk: Desk, session: str) -> None:
    """In one partition and in two; the first received is shown, and counts as written where it stands."""
    body = message("A1", session=session)
    again = [(0, AT_MS + 2), (1, AT_MS), (0, AT_MS + 1), (1, AT_MS + 3)]
    await desk.store(numbered(Record(body, partition=p, received_at_ms=ms) for p, ms in again))
    [row] = await rows(desk.pool, session)
    found = await accounts(desk.pool, desk.consumer.name)
    assert row["received_at_ms"] == AT_MS
    assert [(found[p].written, found[p].merged) for p in (P0, P1)] == [(0, 2), (1, 1)]


async def test_twins_are_one_message(desk: Desk, session: str) -> None:
    body = message("A1", session=session)
    await desk.store(numbered([Record(body, "message"), Record(body, "message.any", received_at_ms=AT_MS + 1)]))
    assert await desk.books() == {"records": 2, "written": 1, "merged": 1}
    assert len(await rows(desk.pool, session)) == 1


async def test_twins_that_differ_have_an_order(desk: Desk, session: str) -> None:
    """One envelope id, one millisecond: the event's name decides, not who came first."""
    shown = set()
    for n, events in enumerate([("message", "message.any"), ("message.any", "message")]):
        bodies = {e: message("A1", session=f"{session}{n}", body=f"text of {e}") for e in events}
        for offset, event in enumerate(events, start=2 * n):
            await desk.store([Record(bodies[event], event, offset=offset)])
        [row] = await rows(desk.pool, f"{session}{n}")
        shown.add(row["body"])
    assert len(shown) == 1


async def test_a_better_content_replaces_only_its_own_chats_message(desk: Desk, session: str) -> None:
    """The same raw id at the same second in two chats has one hash: the chat tells them apart."""
    ids = [f"false_{ANA}_A1", "false_447700900123@c.us_A1"]
    await desk.store(numbered(Record(message("A1", session=session, id=i, body=None)) for i in ids))
    await desk.store(numbered([Record(message("A1", session=session, id=ids[0], body="hi"))], start=2))
    assert {(r["chat"], r["body"]) for r in await rows(desk.pool, session)} == {
        (ANA, "hi"), ("447700900123@c.us", None),
    }  # fmt: skip


async def test_a_richer_content_replaces_a_poorer_one(desk: Desk, session: str) -> None:
    """Though it was received later, and though its time is in another chunk."""
    poor = message("A1", session=session, body=None)
    rich = message("A1", session=session, body="here it is", timestamp=AT_MS // 1000 - 90 * 86_400)
    await desk.store(numbered([Record(poor)]))
    await desk.store(numbered([Record(rich, received_at_ms=AT_MS + 5)], start=1))
    [row] = await rows(desk.pool, session)
    assert (row["body"], row["ts_ms"]) == ("here it is", AT_MS - 90 * 86_400_000)
    assert await desk.books() == {"records": 2, "written": 1, "merged": 1}


async def test_a_replay_with_drifted_times_adds_and_rewrites_nothing(desk: Desk, session: str) -> None:
    count = 200
    bodies = [message(f"A{n}", session=session) for n in range(count)]
    await desk.store(numbered(Record(b) for b in bodies))
    versions = "SELECT array_agg(xmin::text ORDER BY ctid) FROM whatsapp_gateway.{} WHERE {}"
    content = versions.format("message_content", "raw_id LIKE 'A%'")
    before = await rows(desk.pool, session), await desk.pool.fetchval(content)
    drifted = [message(f"A{n}", session=session, timestamp=AT_MS // 1000 + 1) for n in range(count)]
    await desk.store(numbered((Record(b, received_at_ms=AT_MS + 1) for b in drifted), start=count))
    assert (await rows(desk.pool, session), await desk.pool.fetchval(content)) == before
    assert await desk.books() == {"records": 2 * count, "written": count, "merged": count}


async def test_the_same_raw_id_of_others_is_another_message(desk: Desk, session: str) -> None:
    """Chat, direction and (in groups) the sender belong to a message's key: ids are chosen by peers."""
    group = "120363040000000001@g.us"
    ids = [
        f"false_{ANA}_A1", f"true_{ANA}_A1", f"false_{group}_A1_{ANA}", f"false_{group}_A1_1@lid",
        f"true_{group}_A1_2@lid", "false_2@c.us_A1", "false_2@c.us_a1",
    ]  # fmt: skip
    await desk.store(numbered(Record(message("", session=session, id=i)) for i in ids))
    assert len(await rows(desk.pool, session)) == len(ids)


# ---------------------------------------------------------------- the books
@pytest.mark.parametrize("seed", range(12))
async def test_the_books_come_out_even_after_any_sequence(desk: Desk, session: str, seed: int) -> None:
    """Batches of two partitions with everything in them, redelivered, cut anew and stepped over."""
    print(f"seed {seed}")
    rng = random.Random(seed)
    kinds = ["new", "new", "new", "known", "unwanted", "unreadable", "spoilt"]
    expected = dict.fromkeys(("records", "written", "merged", "skipped", "dead", "gap"), 0)
    at = {P0: rng.randrange(1000), P1: 0}
    seen: list[str] = []
    stored: list[list[Record]] = []
    for step in range(12):
        records: list[Record] = []
        for partition in rng.sample([P0, P1], rng.randint(1, 2)):
            if partition in await desk.next_offsets() and rng.random() < 0.2:
                jump = rng.randint(1, 50)
                at[partition] += jump
                expected["gap"] += jump
                await desk.writer.pass_over({partition: (at[partition] - jump, at[partition])})
            for _ in range(rng.randint(1, 8)):
                kind = rng.choice(kinds)
                if kind == "known" and not seen:
                    kind = "new"
                raw_id = rng.choice(seen) if kind == "known" else f"{kind}{step}-{len(records)}"
                if kind == "new":
                    seen.append(raw_id)
                records.append(
                    Record(
                        b"no json" if kind == "unreadable" else message(raw_id, session=session),
                        "message.ack" if kind == "unwanted" else "message",
                        partition=partition.partition, offset=at[partition], received_at_ms=AT_MS + step,
                        spoilt={"body": "\x00"} if kind == "spoilt" else None,
                    )
                )  # fmt: skip
                at[partition] += 1
                expected["records"] += 1
                outcome = {"new": "written", "known": "merged", "unwanted": "skipped"}.get(kind, "dead")
                expected[outcome] += 1
        await desk.store(records)
        stored.append(records)
        if rng.random() < 0.4:
            await desk.store(rng.choice(stored))  # redelivered
        assert await desk.books() == {n: v for n, v in expected.items() if v}
    assert len(await rows(desk.pool, session)) == expected["written"] == len(set(seen))
    assert len(desk.published.records) == expected["dead"]
    assert {p: n for p, n in at.items() if p in await desk.next_offsets()} == await desk.next_offsets()


# ---------------------------------------------------------------- any order
LID, GROUP = "123456789012345@lid", "120363040000000001@g.us"
IDS = [
    f"false_{ANA}_A1", f"true_{ANA}_A1", f"false_{ANA}_A2", f"false_{GROUP}_A1_{ANA}", f"false_{GROUP}_A1_{LID}",
]  # fmt: skip
CONTENTS: list[dict[str, Any]] = [
    {"body": "one"}, {"body": "two"}, {"body": None}, {"hasMedia": True, "media": None},
    {"hasMedia": True, "media": {"mimetype": "image/png"}, "body": "cap"},
    {"body": "re", "replyTo": {"id": "A0", "body": "q"}},
]  # fmt: skip


def history(rng: random.Random, session: str, start: int = 0) -> list[Record]:
    """Contents of a few messages as several sources have them: live and backfill, rich and poor, at drifting times."""
    records = []
    for n in range(start, start + rng.randint(2, 10)):
        payload: dict[str, Any] = {
            "id": rng.choice(IDS),
            "timestamp": AT_MS // 1000 + rng.choice([0, 0, 1, -86_400 * 20]),
        }
        body = message("", session=session, **payload, **rng.choice(CONTENTS))
        event = ("message", "message.any")[n % 2]
        # Twins share their envelope id; before 2024-11 there was none.
        body = body.replace(b'"evt_"', b"null" if rng.random() < 0.3 else b'"evt_%d"' % (n // 2))
        topic = rng.choice(["waha.message", "waha.message", "waha.backfill"])
        records.append(Record(body, event, topic, received_at_ms=AT_MS + rng.choice([0, 0, 1, 2, 1000])))
    return records


def played(rng: random.Random, records: list[Record]) -> list[list[Record]]:
    """The records in any order, some of them again, in two partitions a topic, cut into batches anywhere."""
    order = records + rng.choices(records, k=rng.randint(0, 4))
    rng.shuffle(order)
    order = numbered(replace(r, partition=rng.randrange(2)) for r in order)
    cuts = sorted(rng.sample(range(1, len(order)), k=min(len(order) - 1, rng.randint(0, 4))))
    return [order[a:b] for a, b in zip([0, *cuts], [*cuts, len(order)], strict=True)]


@pytest.mark.parametrize("block", range(10))
async def test_any_order_repetition_and_cut_gives_the_same_rows(pool: Pool, block: int) -> None:
    """200 histories: of all contents of a message the one of lowest rank is shown, however they came."""
    for seed in range(block * 20, block * 20 + 20):
        print(f"seed {seed}")
        rng = random.Random(seed)
        desk, session = new_desk(pool), f"h{seed}-{secrets.token_hex(3)}"
        records = history(rng, session)
        wanted = sorted_rows(expected_rows(desk.consumer, records))
        for batch in played(rng, records):
            await desk.store(batch)
        assert sorted_rows(await rows(pool, session)) == wanted, f"seed {seed}"
        books = await desk.books()
        assert books["written"] == len(wanted)
        assert "dead" not in books


@pytest.mark.parametrize("seed", range(6))
async def test_two_writers_at_once_give_the_same_rows(database: DatabaseSettings, pool: Pool, seed: int) -> None:
    """Two processes with different partitions of the same chats: neither waits for the other for ever."""
    print(f"seed {seed}")
    rng = random.Random(seed)
    name, session = f"messages-{secrets.token_hex(4)}", f"c{secrets.token_hex(4)}"
    records = [r for n in range(12) for r in history(rng, session, start=n * 10)]
    wanted = sorted_rows(expected_rows(Messages(pool), records))
    halves = [numbered(replace(r, partition=p) for r in rng.sample(records, len(records))) for p in (0, 1)]

    async def write(half: list[Record], its_pool: Pool) -> None:
        desk = new_desk(its_pool, name)
        for start in range(0, len(half), 7):
            await desk.store(half[start : start + 7])

    other = await open_pool(database, name="other")
    try:
        await asyncio.gather(write(halves[0], pool), write(halves[1], other))
    finally:
        await other.close()
    assert sorted_rows(await rows(pool, session)) == wanted
    found = totals(await accounts(pool, name))
    assert (found["records"], found["written"]) == (2 * len(records), len(wanted))


# ---------------------------------------------------------------- contacts and sessions
async def play(rng: random.Random, pool: Pool, consumer: Any, records: list[Record]) -> None:
    """The records through a writer of their own, in some order."""
    consumer.name = f"{consumer.name}-{secrets.token_hex(4)}"
    writer: Writer[Any] = Writer(consumer, pool, cast(Publisher, Remembering()))
    for batch in played(rng, records):
        await store(writer, consumer, batch)


async def test_contacts_show_what_the_law_says(pool: Pool) -> None:
    """Names, and days on which somebody was met, through bodies and the writer; the view shows the newest name."""
    for seed in range(40):
        print(f"seed {seed}")
        rng, session, consumer = random.Random(seed), f"k{seed}-{secrets.token_hex(3)}", Contacts(pool)
        records = [shows_ana(rng, session, n) for n in range(rng.randint(2, 8))]
        facts = [f for r in records for f in consumer.decode(read_headers(r, r.topic)).facts]
        stored = merge(f for f in facts if isinstance(f, NameFact))
        shown, seen = names_of(stored, People(stored)), [f for f in facts if isinstance(f, SeenFact)]
        me = {f.jid for f in seen if f.is_me}
        law = {(f.jid, f.jid in me, shown.get((session, f.jid))) for f in seen}
        await play(rng, pool, consumer, records)
        sql = """SELECT c.jid, c.is_me, c.name, c.push_name, c.is_group FROM whatsapp_gateway.contacts c
                 JOIN whatsapp_gateway.sessions s ON s.id = c.session_id WHERE s.name = $1"""
        found = await pool.fetch(sql, session)
        assert {(r["jid"], r["is_me"], r["name"]) for r in found} == law, f"seed {seed}"
        assert all(r["push_name"] == r["name"] for r in found)
        assert all(r["is_group"] == (r["jid"] == GROUP) for r in found)


def shows_ana(rng: random.Random, session: str, n: int) -> Record:
    """A message of Ana's, or to her, that may show a name."""
    at_s = AT_MS // 1000 + rng.choice([0, 0, 60, 3600, 86_400, -86_400])
    id_ = rng.choice([f"false_{ANA}_A{n}", f"true_{ANA}_A{n}", f"false_{GROUP}_A{n}_{ANA}"])
    data = {"pushName": rng.choice([None, "Ana", "Bea", "Ána"])}
    return Record(message("", session=session, id=id_, timestamp=at_s, _data=data))


async def test_sessions_are_the_same_in_any_order(pool: Pool) -> None:
    for seed in range(15):
        print(f"seed {seed}")
        rng = random.Random(seed)
        facts = [
            {
                "timestamp": AT_MS + rng.randint(0, 3), "engine": rng.choice(["NOWEB", None]),
                "me": rng.choice([None, {"id": ANA, "pushName": "Ana"}]),
                "payload": {"status": rng.choice(["STARTING", "WORKING", "FAILED"])},
            }
            for _ in range(rng.randint(2, 5))
        ]  # fmt: skip
        ends = []
        for _ in range(3):
            session = f"z{seed}-{secrets.token_hex(3)}"
            bodies = [orjson.dumps({"event": "session.status", "session": session} | f) for f in facts]
            await play(rng, pool, Sessions(pool), [Record(b, "session.status", SESSION.name) for b in bodies])
            sql = "SELECT status, status_at, me, me_push_name, engine FROM whatsapp_gateway.sessions WHERE name = $1"
            ends.append(tuple(await pool.fetchrow(sql, session) or ()))
        assert len(set(ends)) == 1, f"seed {seed}"
