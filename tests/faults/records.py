"""Records put straight into the topics, past the ingress: what no honest sender writes, and thousands at once."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaProducer

from pipeline.broker import client_options
from schemas.topics import MAX_RECORD_BYTES, MESSAGE, Topic, dead_letter_topic
from tests.faults.compare import connected, read_topic
from tests.faults.rig import Site

SESSION = "straight"
_CHATS = 20
Headers = Sequence[tuple[str, bytes | None]]


@dataclass(frozen=True, slots=True)
class Raw:
    """A record as the broker gets it. `number` names it in the comparison; the others are its parts."""

    number: int
    value: bytes | None
    headers: Headers
    topic: Topic = MESSAGE


def good(number: int, text: str = "hello", **payload: Any) -> Raw:
    """A message with a number for an id."""
    chat = f"4915100000{number % _CHATS:02d}@c.us"
    body = {
        "id": f"evt_{number}", "timestamp": time.time_ns() // 1_000_000, "event": "message", "session": SESSION,
        "payload": {
            "id": f"false_{chat}_N{number}", "timestamp": int(time.time()), "from": chat, "fromMe": False, "body": text,
            "hasMedia": False, "_data": {}, **payload,
        },
        "engine": "NOWEB",
    }  # fmt: skip
    return Raw(number, json.dumps(body).encode(), headers_of("message"))


def headers_of(event: str) -> Headers:
    """As the ingress writes them."""
    return [
        ("event", event.encode()), ("session", SESSION.encode()), ("source", b"default"),
        ("received-at-ms", b"%d" % (time.time_ns() // 1_000_000)),
    ]  # fmt: skip


async def put(site: Site, records: Iterable[Raw]) -> int:
    """Publishes them; answers how many. The number stands in a header of its own as well, so that dead letters name it."""
    producer = AIOKafkaProducer(
        **client_options(site.settings.kafka), acks="all", enable_idempotence=True, linger_ms=10,
        max_request_size=MAX_RECORD_BYTES,
    )  # fmt: skip
    await producer.start()
    try:
        sent = [
            await producer.send(
                site.settings.kafka.topic_prefix + r.topic.name, r.value, key=b"%d" % r.number,
                headers=[*r.headers, ("number", b"%d" % r.number)],
            )
            for r in records
        ]  # fmt: skip
        await asyncio.gather(*sent)
    finally:
        await producer.stop()
    return len(sent)


async def stored_numbers(site: Site) -> Counter[int]:
    """How many rows each number has."""
    async with connected(site) as connection:
        rows = await connection.fetch(
            "SELECT raw_id FROM whatsapp_gateway.messages m JOIN whatsapp_gateway.message_content USING (chat_id, key)"
        )
    found = (re.fullmatch(r"N(\d+)", r["raw_id"]) for r in rows)
    return Counter(int(match[1]) for match in found if match)


async def dead_numbers(site: Site, consumer: str) -> dict[int, str]:
    """The reason of each number that the consumer has dead-lettered."""
    letters = [dict(r.headers) for r in await read_topic(site, dead_letter_topic(consumer))]
    return {int(headers["number"]): headers["dead-reason"].decode() for headers in letters}
