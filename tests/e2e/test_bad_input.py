"""Signed bodies that no reasonable sender writes: each is stored, parked or dead-lettered with its reason; none blocks."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from pipeline.broker import client_options
from schemas.topics import PARKED, dead_letter_topic
from tests.site import Site, running

BASE: dict[str, Any] = {
    "id": "evt_01m80kv4jw4gh9tadtv04gkrtb", "timestamp": 1795317142109, "event": "message", "session": "bad", "me": None,
    "payload": {"id": "false_491511@c.us_A1", "timestamp": 1795317142, "from": "491511@c.us", "fromMe": False,
                "body": "hello", "hasMedia": False, "media": None, "replyTo": None, "_data": {}},
    "engine": "NOWEB", "environment": {"version": "2026.4.1"},
}  # fmt: skip


@pytest.fixture(scope="module")
async def site(servers: Any, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    from tests.conftest import make_environment

    logs = tmp_path_factory.mktemp("bad")
    async with running(await make_environment(servers), logs, "gateway", "messages", "contacts", "sessions") as started:
        yield started


def body(raw_id: str, **payload: Any) -> bytes:
    """A message with other payload fields."""
    changed = BASE | {"payload": BASE["payload"] | {"id": f"false_491511@c.us_{raw_id}"} | payload}
    return json.dumps(changed).encode()


STORED = {
    "nul": (body("NUL", body="a\x00b"), "ab"),
    "lone surrogate": (body("SURROGATE", body="a\ud83db"), "a?b"),
    "ten megabytes": (body("LONG", body="x" * 10_000_000), "x" * 10_000_000),
    "text is a number": (body("NUMBER", body=5), None),
    "time is a text": (body("TIME", timestamp="yesterday"), "hello"),
    "time is far away": (body("FAR", timestamp=10**30), "hello"),
    "media is a list": (body("MEDIA", media=[1], hasMedia="yes"), "hello"),
    "everything else is wrong": (
        body(
            "WRONG", fromMe="no", to=[], participant={}, source=1, location=[], vCards={}, replyTo="x", _data=[], ack={}
        ),
        "hello",
    ),
    "unknown engine": (json.dumps(BASE | {"engine": "FAX"}).encode(), "hello"),
    "not a number": (body("NAN").replace(b'"timestamp": 1795317142,', b'"timestamp": NaN,'), "hello"),
}
PARKED_BODIES = {
    "not json": (b"{", "not_json"),
    "empty": (b"", "not_json"),
    "a list": (b"[1]", "not_an_object"),
    "a hundred thousand lists": (b'{"event":"message","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not_json"),
    "not utf-8": (b'{"event":"\xff"}', "not_json"),
    "no event": (b'{"session":"bad"}', "no_event"),
    "no session": (b'{"event":"message"}', "no_session"),
}
DEAD = {
    "no payload": (b'{"event":"message","session":"bad"}', "payload_missing"),
    "payload is a text": (b'{"event":"message","session":"bad","payload":"x"}', "payload_missing"),
    "no id": (b'{"event":"message","session":"bad","payload":{}}', "message_id_missing"),
    "id without chat": (b'{"event":"message","session":"bad","payload":{"id":"A1"}}', "chat_missing"),
    "endless chat": (
        json.dumps(BASE | {"payload": {"id": f"false_{'1' * 5000}@c.us_A1"}}).encode(),
        "jid_too_long",
    ),
}


async def test_bad_input_is_stored_parked_or_dead_lettered_by_name(site: Site) -> None:
    everything = [
        *(b for b, _ in STORED.values()),
        *(b for b, _ in PARKED_BODIES.values()),
        *(b for b, _ in DEAD.values()),
    ]
    for raw in everything:
        answer = await site.post(raw)
        assert answer.status_code == 200, (answer.text, raw[:200])
    books = await site.settled(len(everything))
    assert books.difference == 0
    assert books.parked == len(PARKED_BODIES)

    texts = {m["id"].split("_")[2]: m["text"] for m in await site.messages("bad", "491511@c.us")}
    expected = {json.loads(b, strict=False)["payload"]["id"].split("_")[2]: text for b, text in STORED.values()}
    assert texts == expected

    assert await reasons(site, PARKED.name, "reason") == sorted(r for _, r in PARKED_BODIES.values())
    dead = sorted(r for _, r in DEAD.values())
    assert await reasons(site, dead_letter_topic("messages").name, "dead-reason") == dead
    line = next(line for line in books.lines if line.consumer == "messages")
    assert line.dead == len(DEAD)
    for name, process in site.processes.items():
        assert process.returncode is None, f"{name} died"


async def test_what_the_database_refuses_is_dead_lettered_alone(site: Site) -> None:
    """A text of 300 MB would be needed to make PostgreSQL refuse a value; a trigger that refuses one is the same."""
    connection = await asyncpg.connect(site.settings.database.dsn())
    try:
        await connection.execute(
            """CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 IF NEW.body = 'refuse me' THEN RAISE EXCEPTION 'refused' USING ERRCODE = '22023'; END IF;
                 RETURN NEW; END $$;
               CREATE TRIGGER refuse BEFORE INSERT ON whatsapp_gateway.message_content
                 FOR EACH ROW EXECUTE FUNCTION refuse()"""
        )
        before = await site.settled(0)
        for number in range(40):
            await site.post(body(f"R{number}", body="refuse me" if number == 17 else f"fine {number}"))
        books = await site.settled(before.received + before.parked + 40)
    finally:
        await connection.execute("DROP TRIGGER IF EXISTS refuse ON whatsapp_gateway.message_content")
        await connection.close()
    ids = {m["id"].split("_")[2] for m in await site.messages("bad", "491511@c.us")}
    assert {i for i in ids if i.startswith("R") and i[1:].isdigit()} == {f"R{n}" for n in range(40) if n != 17}
    assert books.difference == 0
    assert "refused_by_database" in await reasons(site, dead_letter_topic("messages").name, "dead-reason")


async def reasons(site: Site, topic: str, header: str) -> list[str]:
    """The reasons that stand in the headers of a topic, sorted."""
    name = site.settings.kafka.topic_prefix + topic
    consumer = AIOKafkaConsumer(**client_options(site.settings.kafka), fetch_max_bytes=2**24)
    await consumer.start()
    try:
        partition = TopicPartition(name, 0)
        consumer.assign([partition])
        end = (await consumer.end_offsets([partition]))[partition]
        consumer.seek(partition, 0)
        found: list[str] = []
        while len(found) < end:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                found += [dict(r.headers)[header].decode() for r in records]
        return sorted(found)
    finally:
        await consumer.stop()
