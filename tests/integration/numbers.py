"""A small consumer for tests of the runner: records are numbers, stored with their place in a table without any key, so
that losses and doubles show. `python -m tests.integration.numbers NAME PARTITIONS` runs it as a process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import uvloop
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import RecordsToDelete
from prometheus_client import REGISTRY

from pipeline import books
from pipeline.batch import Event, Partition, Place
from pipeline.broker import Publisher, admin_client, apply_topics, client_options
from pipeline.errors import TransientError
from pipeline.inflight import WRITERS
from pipeline.lifecycle import install_signals
from pipeline.logs import setup_logging
from pipeline.migrate import migrate
from pipeline.postgres import Connection, Pool, copy_rows, open_pool
from pipeline.reader import read_bounds, read_records
from pipeline.runner import Runner
from pipeline.serve import run_consumer
from pipeline.settings import Settings, load_settings
from schemas.errors import MalformedError
from schemas.topics import MAX_RECORD_BYTES, Topic, dead_letter_topic, redrive_topic
from tests.site import until
from tests.stack import DatabaseServer

DEADLY = b"deadly"
STUCK = b"stuck"
BAD = b"no number"
REFUSED = b"-1"  # by the database


class Number(NamedTuple):
    """A fact."""

    n: int
    place: Place
    body: bytes


def numbers_topic(name: str, partitions: int) -> Topic:
    """The topic of the consumer `name`."""
    return Topic(f"numbers.{name}", "numbers of a test", partitions=partitions, live=False)


class Numbers:
    """See module. `away` makes the database seem away, `hold` keeps a batch in the transaction while it is not set,
    `stuck` one with a STUCK record for ever."""

    events = frozenset({"number"})

    def __init__(self, name: str, partitions: int) -> None:
        self.name, self.topics = name, (numbers_topic(name, partitions),)
        self.away = False
        self.stuck = True
        self.hold = asyncio.Event()
        self.hold.set()
        self.writing = asyncio.Event()

    def decode(self, event: Event) -> Number:
        """A number, and then anything."""
        word = event.value.split(b" ", 1)[0]
        if word == DEADLY:
            os._exit(9)
        if not word.lstrip(b"-").isdigit() and word != STUCK:
            raise MalformedError("no_number", "value")
        return Number(-2 if word == STUCK else int(word), event.place, event.value)

    async def prepare(self, facts: list[Number]) -> list[Number]:
        """Nothing to do."""
        return facts

    async def stage(self, connection: Connection, facts: list[Number]) -> None:
        """Nothing: a number is written as it is."""

    async def write(self, connection: Connection, facts: list[Number]) -> dict[Partition, int]:
        """Each as it is."""
        if self.stuck and any(fact.n == -2 for fact in facts):
            await asyncio.get_running_loop().create_future()
        self.writing.set()
        await self.hold.wait()
        if self.away:
            raise TransientError("postgres", "said the test")
        rows = [(self.name, f.n, f.place.partition, f.place.offset) for f in facts]
        await copy_rows(connection, "numbers", ["consumer", "n", "partition", "offset"], rows)
        return Counter(Partition(f.place.topic, f.place.partition) for f in facts)


@dataclass
class Reading:
    """A running runner."""

    runner: Runner[Number]
    consumer: Numbers
    task: asyncio.Task[None]
    stop: asyncio.Event
    failed: bool = False

    async def failure(self) -> BaseException:
        """What ended it; the test expects that."""
        self.failed = True
        await asyncio.wait({self.task})
        exc = self.task.exception()
        assert exc is not None, "it ended well"
        return exc

    async def end(self) -> None:
        """Stops it as SIGTERM does."""
        self.stop.set()
        await self.task

    @property
    def partitions(self) -> frozenset[TopicPartition]:
        """What is assigned to it: of the numbers' topic, and of the redrive topic with its one partition."""
        client = self.runner._stream.client
        return client.assignment() if client is not None and self.runner._assigned else frozenset()


@dataclass
class Desk:
    """A topic of numbers, the tables behind it, and readers of both."""

    environment: dict[str, str]
    pool: Pool
    partitions: int
    name: str = field(default_factory=lambda: f"numbers-{secrets.token_hex(4)}")

    @cached_property
    def settings(self) -> Settings:
        return load_settings(self.environment)

    @cached_property
    def topic(self) -> Topic:
        return numbers_topic(self.name, self.partitions)

    async def make_topics(self) -> None:
        await apply_topics(self.settings.kafka, [self.topic, dead_letter_topic(self.name), redrive_topic(self.name)])

    async def publish(
        self,
        values: Iterable[int | bytes],
        partition: int | None = None,
        *,
        partitions: Sequence[int] = (),
        **options: Any,
    ) -> None:
        """Numbers, or bodies as they are; in turn to the given partitions, or to all."""
        chosen = [partition] if partition is not None else list(partitions) or list(range(self.partitions))
        sizes = {"max_request_size": MAX_RECORD_BYTES, "max_batch_size": 256 * 1024}
        producer = AIOKafkaProducer(**client_options(self.settings.kafka), **(sizes | options))
        await producer.start()
        try:
            async with producer.transaction() if "transactional_id" in options else contextlib.nullcontext():
                await self._send(producer, values, chosen)
        finally:
            await producer.stop()

    async def _send(self, producer: AIOKafkaProducer, values: Iterable[int | bytes], partitions: Sequence[int]) -> None:
        sent = []
        for index, value in enumerate(values):
            body = value if isinstance(value, bytes) else b"%d" % value
            topic, at = self.settings.kafka.topic_prefix + self.topic.name, partitions[index % len(partitions)]
            sent.append(await producer.send(topic, body, partition=at, headers=[("event", b"number")]))
        await asyncio.gather(*sent)

    @contextlib.asynccontextmanager
    async def reading(self, **more: str) -> AsyncIterator[Reading]:
        """A runner, started; ended with the block when it is not ended yet."""
        settings = load_settings(self.environment | {f"WAPIPE_{n.upper()}": v for n, v in more.items()})
        pool = await open_pool(settings.database, name=self.name, max_size=WRITERS + 1)
        consumer, stop = Numbers(self.name, self.partitions), asyncio.Event()
        async with Publisher(settings.kafka) as publisher:
            runner = Runner(consumer, settings, pool, publisher)
            task = asyncio.create_task(runner.run(stop))
            try:
                reading = Reading(runner, consumer, task, stop)
                yield reading
                stop.set()
                if not reading.failed:
                    await task
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                await pool.close()

    # ------------------------------------------------------------ what came of it
    async def accounts(self) -> dict[int, books.Account]:
        """The books by partition; each of them balances."""
        found = {a.partition: a for a in await books.accounts(self.pool, self.name) if a.topic == self.topic.name}
        assert {p: a.difference for p, a in found.items() if a.difference} == {}
        return found

    async def settled(self, patience_s: float = 60) -> Mapping[int, books.Account]:
        """The books when everything that was published is accounted for."""

        async def probe() -> dict[int, books.Account] | None:
            ends = {p: end for p, (_, end) in (await read_bounds(self.settings.kafka, self.topic)).items()}
            found = await self.accounts()
            return found if {p: a.next_offset for p, a in found.items()} == ends else None

        return await until(probe, "everything to be accounted for", patience_s)

    async def stored(self) -> list[int]:
        """All numbers in the table, in order, doubles too."""
        rows = await self.pool.fetch("SELECT n FROM public.numbers WHERE consumer = $1 ORDER BY n", self.name)
        return [r["n"] for r in rows]

    async def count(self) -> int:
        return int(await self.pool.fetchval("SELECT count(*) FROM public.numbers WHERE consumer = $1", self.name))

    async def letters(self) -> list[Any]:
        """Dead letters, each of them once: a killed process may have published one without booking it."""
        topic = dead_letter_topic(self.name)
        found: dict[tuple[bytes, bytes], Any] = {}
        async for records in read_records(
            self.settings.kafka, topic, await read_bounds(self.settings.kafka, topic)
        ):  # fmt: skip
            for record in records:
                headers = dict(record.headers)
                found.setdefault((headers["dead-partition"], headers["dead-offset"]), record)
        return list(found.values())

    async def delete_before(self, offset: int, partition: int = 0) -> None:
        """What retention does, at once."""
        tp = TopicPartition(self.settings.kafka.topic_prefix + self.topic.name, partition)
        async with admin_client(self.settings.kafka) as client:
            await client.delete_records({tp: RecordsToDelete(offset)})

    def metric(self, name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(name, {"consumer": self.name, **labels}) or 0.0

    @property
    def command(self) -> list[str]:
        """Runs the consumer as a process."""
        return [sys.executable, "-m", "tests.integration.numbers", self.name, str(self.partitions)]


async def numbers_environment(bootstrap: str, server: DatabaseServer) -> dict[str, str]:
    """A migrated database with the table of numbers, and topics of its own."""
    environment = {
        "WAPIPE_KAFKA_BOOTSTRAP_SERVERS": bootstrap, "WAPIPE_TOPIC_PREFIX": f"n{secrets.token_hex(4)}.",
        "WHATSAPP_DB_HOST": server.host, "WHATSAPP_DB_PORT": str(server.port), "WHATSAPP_DB_USER": server.user,
        "WHATSAPP_DB_PASSWORD": server.password, "WHATSAPP_DB_NAME": await server.create_database(),
    }  # fmt: skip
    await migrate(load_settings(environment).database)
    connection = await server.connect(environment["WHATSAPP_DB_NAME"])
    try:
        await connection.execute(
            """CREATE TABLE public.numbers (consumer text NOT NULL, n bigint NOT NULL CHECK (n <> -1), partition int NOT NULL,
               "offset" bigint NOT NULL)"""
        )
    finally:
        await connection.close()
    return environment


async def _main(name: str, partitions: int) -> None:
    install_signals()
    settings = load_settings()
    setup_logging(settings.log.level)
    await run_consumer(lambda _: Numbers(name, partitions), name, settings)


if __name__ == "__main__":
    uvloop.run(_main(sys.argv[1], int(sys.argv[2])))
