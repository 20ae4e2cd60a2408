"""What tests of the writer share: records as a broker has them, batches as the runner makes them, rows as they stand."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import orjson
from msgspec import structs

from consumers.messages import Messages
from pipeline import books
from pipeline.batch import Batch, Dead, Partition, Tally, read_headers
from pipeline.broker import Publisher
from pipeline.consumer import is_wanted
from pipeline.errors import PoisonError
from pipeline.facts import Placed
from pipeline.migrate import migrate
from pipeline.postgres import Pool
from pipeline.settings import DatabaseSettings, load_settings
from pipeline.write import Writer
from schemas.errors import MalformedError
from schemas.reading import UnreadableError
from schemas.rows import ContentFact
from schemas.topics import MESSAGE
from tests.stack import DatabaseServer
from tests.unit.ingress_client import Remembering

ANA = "5511988887777@c.us"
ME = "4915112345678@c.us"
AT_MS = 1_784_973_600_000


@dataclass(frozen=True)
class Record:
    """As much of a consumer's record as the pipeline reads. `spoilt` replaces fields of the decoded fact: what the
    normaliser would never let through."""

    value: bytes
    event: str = "message"
    topic: str = MESSAGE.name
    partition: int = 0
    offset: int = 0
    received_at_ms: int = AT_MS
    spoilt: Mapping[str, Any] | None = None
    key: bytes = b"k"

    @property
    def timestamp(self) -> int:
        return self.received_at_ms

    @property
    def headers(self) -> list[tuple[str, bytes]]:
        return [("event", self.event.encode()), ("received-at-ms", b"%d" % self.received_at_ms)]


def message(raw_id: str, *, session: str = "default", chat: str = ANA, **payload: Any) -> bytes:
    """The body of an incoming message."""
    full = {"id": f"false_{chat}_{raw_id}", "timestamp": AT_MS // 1000, "body": f"text of {raw_id}", **payload}
    return orjson.dumps({"event": "message", "session": session, "id": f"evt_{raw_id}", "payload": full})


def numbered(records: Iterable[Record], start: int = 0) -> list[Record]:
    """The records with consecutive offsets in each of their partitions."""
    following: dict[Partition, int] = {}
    out = []
    for record in records:
        partition = Partition(record.topic, record.partition)
        offset = following.get(partition, start)
        following[partition] = offset + 1
        out.append(replace(record, offset=offset))
    return out


def batch_of(consumer: Any, records: Iterable[Record]) -> Batch[Any]:
    """What the runner makes of records: facts, dead ones apart, unwanted ones counted."""
    batch: Batch[Any] = Batch(epoch=0)
    for record in records:
        partition = Partition(record.topic, record.partition)
        tally = batch.tallies.setdefault(partition, Tally(record.offset, record.offset))
        tally.records += 1
        tally.next = record.offset + 1
        event = read_headers(record, record.topic)
        if not is_wanted(consumer, event.event):
            tally.skipped[event.event] += 1
            continue
        try:
            fact = consumer.decode(event)
        except (MalformedError, UnreadableError) as exc:
            batch.dead.append(Dead(event.place, record, PoisonError(exc.reason)))
            continue
        if record.spoilt:
            fact = spoil(fact, record.spoilt)
        batch.facts.append(fact)
        batch.places.append(event.place)
        batch.records.append(record)
    return batch


def spoil(placed: Placed, changes: Mapping[str, Any]) -> Placed:
    """The same with other fields in its content."""
    ranked = placed.facts[0]
    content = structs.replace(ranked.content, **changes)
    return structs.replace(placed, facts=[structs.replace(ranked, content=content), *placed.facts[1:]])


async def store(writer: Writer[Any], consumer: Any, records: Iterable[Record]) -> None:
    """Both stages of the runner for one batch."""
    batch = batch_of(consumer, records)
    batch.prepared = await writer.prepare(batch.facts)
    await writer.store(batch)


async def accounts(pool: Pool, consumer: str) -> dict[Partition, books.Account]:
    """The books of one consumer; every one of them balances."""
    found = {Partition(a.topic, a.partition): a for a in await books.accounts(pool) if a.consumer == consumer}
    assert {p: a.difference for p, a in found.items() if a.difference} == {}
    return found


def totals(found: Mapping[Partition, books.Account]) -> dict[str, int]:
    """The books of all partitions together; what is 0 is left out."""
    names = ("records", "written", "merged", "skipped", "dead", "gap")
    return {n: s for n in names if (s := sum(getattr(a, n) for a in found.values()))}


ROWS = """
    SELECT s.name AS session, c.jid AS chat, f.jid AS sender, p.jid AS participant, m.from_me, m.raw_id, m.has_media,
           m.type, m.body, m.reply_to, m.source, m.push_name, m.mimetype, m.filename, m.event_id, m.extra::text AS extra,
           round(extract(epoch FROM m.ts) * 1000)::bigint AS ts_ms, m.lane,
           round(extract(epoch FROM m.received_at) * 1000)::bigint AS received_at_ms, k.rank::text AS rank
    FROM whatsapp_gateway.message_content m
    JOIN whatsapp_gateway.message_keys k ON k.chat_id = m.chat_id AND k.key = m.key AND k.ts = m.ts
    JOIN whatsapp_gateway.sessions s ON s.id = m.session_id
    JOIN whatsapp_gateway.jids c ON c.id = m.chat_id
    LEFT JOIN whatsapp_gateway.jids f ON f.id = m.sender_id
    LEFT JOIN whatsapp_gateway.jids p ON p.id = m.participant_id
    WHERE s.name = ANY ($1)
"""


async def rows(pool: Pool, *sessions: str) -> list[dict[str, Any]]:
    """Messages of these sessions with the texts behind the numbers; each stands under its key, and no key stands alone."""
    found = [dict(r) for r in await pool.fetch(ROWS, list(sessions))]
    keys = await pool.fetchval(
        """SELECT count(*) FROM whatsapp_gateway.message_keys k JOIN whatsapp_gateway.jids j ON j.id = k.chat_id
           JOIN whatsapp_gateway.sessions s ON s.id = j.session_id WHERE s.name = ANY ($1)""",
        list(sessions),
    )
    contents = await pool.fetchval(
        """SELECT count(*) FROM whatsapp_gateway.message_content m JOIN whatsapp_gateway.sessions s ON s.id = m.session_id
           WHERE s.name = ANY ($1)""",
        list(sessions),
    )
    assert keys == contents == len(found)
    for row in found:
        row["extra"] = orjson.loads(row["extra"]) if row["extra"] is not None else None
    return found


def row_of(fact: ContentFact, record: Record, lane: int, rank: bytes) -> dict[str, Any]:
    """The row that `rows` answers for a fact."""
    names = (
        "session", "chat", "sender", "participant", "from_me", "raw_id", "has_media", "type", "body", "reply_to",
        "source", "push_name", "mimetype", "filename", "event_id", "ts_ms",
    )  # fmt: skip
    hexed = rank.hex()
    return {n: getattr(fact, n) for n in names} | {
        "extra": orjson.loads(fact.extra) if fact.extra is not None else None,
        "lane": lane,
        "received_at_ms": record.received_at_ms,
        "rank": f"{hexed[:8]}-{hexed[8:12]}-{hexed[12:16]}-{hexed[16:20]}-{hexed[20:]}",
    }


def expected_rows(consumer: Messages, records: Iterable[Record]) -> list[dict[str, Any]]:
    """The law in plain Python: of all contents of one message the one of lowest rank is shown."""
    best: dict[tuple[Any, ...], tuple[bytes, dict[str, Any]]] = {}
    for record in records:
        ranked = consumer.decode(read_headers(record, record.topic)).facts[0]
        fact = ranked.content
        key = (fact.session, fact.chat, fact.from_me, fact.key_sender, fact.raw_id)
        if key not in best or ranked.rank < best[key][0]:
            best[key] = (ranked.rank, row_of(fact, record, ranked.lane, ranked.rank))
    return [row for _, row in best.values()]


def sorted_rows(many: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """In an order that depends on nothing but the rows."""
    return sorted(many, key=lambda r: repr(sorted(r.items(), key=lambda item: item[0])))


@dataclass
class Desk:
    """A consumer of its own name, its writer, and what it published."""

    pool: Pool
    consumer: Messages
    writer: Writer[Any]
    published: Remembering

    async def store(self, records: list[Record]) -> None:
        await store(self.writer, self.consumer, records)

    async def books(self) -> dict[str, int]:
        return totals(await accounts(self.pool, self.consumer.name))

    async def next_offsets(self) -> dict[Partition, int]:
        return await self.writer.positions()


def new_desk(pool: Pool, name: str | None = None) -> Desk:
    """The messages consumer under a name (a random one when none is given), which takes contents only."""
    consumer, published = Messages(pool), Remembering()
    cast(Any, consumer).events = frozenset({"message", "message.any"})
    consumer.name = name or f"messages-{secrets.token_hex(4)}"
    return Desk(pool, consumer, Writer(consumer, pool, cast(Publisher, published)), published)


async def migrated(server: DatabaseServer) -> DatabaseSettings:
    """A new database with wapipe's tables."""
    env = {
        "WHATSAPP_DB_HOST": server.host, "WHATSAPP_DB_PORT": str(server.port), "WHATSAPP_DB_USER": server.user,
        "WHATSAPP_DB_PASSWORD": server.password, "WHATSAPP_DB_NAME": await server.create_database(),
    }  # fmt: skip
    settings = load_settings(env).database
    await migrate(settings)
    return settings


def texts(count: int, session: str, partitions: int = 1) -> list[Record]:
    """So many different messages, spread over partitions."""
    return numbered(Record(message(f"A{n}", session=session), partition=n % partitions) for n in range(count))
