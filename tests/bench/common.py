"""What the benchmarks share: real servers, a full topic, processes, and tables of ratios.

Ratios only: each round runs a limit and the subject one after the other, the table gives the median of the rounds. The
machine's cores are shared with the broker, the database and the load, and the document says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import statistics
import sys
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field

import asyncpg
import psutil
from aiokafka import AIOKafkaProducer

from pipeline.broker import apply_topics
from pipeline.migrate import migrate
from pipeline.registry import consumer_names
from pipeline.settings import Settings, load_settings
from producers.simulator import Delivery, Profile, traffic
from schemas.envelope import read_envelope, to_header
from schemas.topics import MESSAGE, RECEIPT, ROUTES, all_topics
from tests.stack import DatabaseServer, KafkaServer, Servers
from tests.warm import inherited


@dataclass(slots=True)
class Table:
    """Rows of one benchmark: name, rate, ratio to the limit, a note."""

    title: str
    unit: str
    limit: str
    rates: dict[str, list[float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    limits: dict[str, str] = field(default_factory=dict)  # of rows that have a limit of their own

    def add(self, name: str, rate: float, *, limit: str | None = None) -> None:
        self.rates.setdefault(name, []).append(rate)
        if limit is not None:
            self.limits[name] = limit
        print(f"  {name}: {rate:,.0f} {self.unit}", file=sys.stderr, flush=True)

    def ratio(self, name: str, limit: str | None = None) -> float:
        """Median over the rounds of subject / limit of the same round."""
        base = self.rates[limit or self.limits.get(name, self.limit)]
        return statistics.median(s / b for s, b in zip(self.rates[name], base, strict=False))

    def markdown(self) -> str:
        lines = [
            f"### {self.title}",
            "",
            f"| | {self.unit} (median) | ratio to {self.limit} | rounds |",
            "|---|---|---|---|",
        ]
        for name, values in self.rates.items():
            lines.append(
                f"| {name} | {statistics.median(values):,.0f} | {self.ratio(name):.2f} "
                f"({min(values):,.0f}–{max(values):,.0f}) | {len(values)} |"
            )
        return "\n".join([*lines, "", *self.notes, ""])


@dataclass(frozen=True, slots=True)
class Site:
    """Servers; `environment` gives a fresh migrated database beside the topics of a prefix."""

    servers: Servers
    kafka: KafkaServer
    database: DatabaseServer

    async def environment(self, prefix: str) -> dict[str, str]:
        """Settings of a fresh database that shares the topics of `prefix`."""
        environment = _environment(self.kafka, self.database, prefix, await self.database.create_database())
        await migrate(load_settings(environment).database)
        return environment


def _environment(kafka: KafkaServer, database: DatabaseServer, prefix: str, name: str) -> dict[str, str]:
    return {
        "WAPIPE_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap, "WAPIPE_TOPIC_PREFIX": prefix,
        "WHATSAPP_DB_HOST": database.host, "WHATSAPP_DB_PORT": str(database.port), "WHATSAPP_DB_USER": database.user,
        "WHATSAPP_DB_PASSWORD": database.password, "WHATSAPP_DB_NAME": name,
        "WHATSAPP_HOOK_HMAC_KEY": "benchmark-key-0123456789", "WHATSAPP_GATEWAY_API_TOKEN": "benchmark-token-0123456789",
    }  # fmt: skip


@contextlib.asynccontextmanager
async def site() -> AsyncIterator[Site]:
    """Kafka and a database server, TimescaleDB where it can be had."""
    servers = Servers(lambda text: print(f"[stack] {text}", file=sys.stderr, flush=True), lasting=True)
    try:
        kafka, database = await asyncio.gather(servers.kafka(), servers.database())
        yield Site(servers, kafka, database)
    finally:
        await servers.close()


def message_traffic(count: int, *, sessions: int = 20, chats: int = 100, seed: int = 7) -> Iterator[Delivery]:
    """New messages only, every record another one: four engines, `sessions` x `chats` active chats."""
    profile = Profile(
        sessions=sessions, chats=chats, acks=0, edits=0, reactions=0, revokes=0, others=0, duplicates=0, out_of_order=0,
        twins=False, seed=seed, rate_per_s=500,
    )  # fmt: skip
    return itertools.islice((d for d in traffic(profile) if d.event == "message.any"), count)


def mixed_traffic(count: int, *, sessions: int = 20, chats: int = 100, seed: int = 7) -> Iterator[Delivery]:
    """What the messages consumer stores of ordinary traffic: to each message three acks and 0.2 of everything else."""
    whole = 1 + 3 + 0.2
    profile = Profile(
        sessions=sessions, chats=chats, acks=3 / whole, edits=0.05 / whole, reactions=0.08 / whole,
        revokes=0.02 / whole, others=0.05 / whole, duplicates=0, out_of_order=0, twins=False, seed=seed, rate_per_s=500,
    )  # fmt: skip
    return itertools.islice((d for d in traffic(profile) if ROUTES.get(d.event) in (MESSAGE, RECEIPT)), count)


def ack_traffic(count: int, *, sessions: int = 20, chats: int = 100, seed: int = 7) -> Iterator[Delivery]:
    """Acks alone, of messages that are not among them."""
    profile = Profile(
        sessions=sessions, chats=chats, acks=0.9, edits=0, reactions=0, revokes=0, others=0, duplicates=0,
        out_of_order=0, twins=False, seed=seed, rate_per_s=500,
    )  # fmt: skip
    return itertools.islice((d for d in traffic(profile) if ROUTES.get(d.event) is RECEIPT), count)


async def fill_topic(settings: Settings, deliveries: Iterable[Delivery]) -> int:
    """Publishes deliveries as the ingress would, without it; answers how many."""
    await apply_topics(settings.kafka, all_topics(consumer_names()))
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka.bootstrap_servers, linger_ms=20, max_batch_size=512 * 1024,
        max_request_size=17 * 1024 * 1024,
    )  # fmt: skip
    await producer.start()
    count, pending = 0, []
    try:
        for delivery in deliveries:
            envelope = read_envelope(delivery.body)
            headers = [
                ("event", to_header(envelope.event)), ("event-id", to_header(envelope.event_id)),
                ("session", to_header(envelope.session)), ("engine", to_header(envelope.engine)), ("source", b"default"),
                ("received-at-ms", b"%d" % (time.time_ns() // 1_000_000)),
            ]  # fmt: skip
            key = f"{envelope.session}|{envelope.chat}".encode()
            topic = settings.kafka.topic_prefix + envelope.topic.name
            pending.append(await producer.send(topic, delivery.body, key=key, headers=headers))
            count += 1
            if len(pending) >= 5000:
                await asyncio.gather(*pending)
                pending.clear()
        await asyncio.gather(*pending)
    finally:
        await producer.stop()
    return count


@contextlib.asynccontextmanager
async def wapipe(environment: dict[str, str], *arguments: str, quiet: bool = False) -> AsyncIterator[psutil.Process]:
    """`wapipe …` as a process of its own, ended with the block. `quiet`: what it prints is no part of the results."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pipeline.cli", *arguments, env=inherited() | environment,
        stdout=asyncio.subprocess.DEVNULL if quiet else None, stderr=asyncio.subprocess.DEVNULL if quiet else None,
    )  # fmt: skip
    try:
        yield psutil.Process(process.pid)
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), 30)
            except TimeoutError:
                process.kill()
                await process.wait()


async def connect(settings: Settings) -> asyncpg.Connection[asyncpg.Record]:
    """One plain connection."""
    return await asyncpg.connect(settings.database.dsn(), server_settings={"jit": "off"})
