"""Live records and a backlog of backfill on a real broker: what waits in the client's buffer holds up nobody."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from pipeline.broker import apply_topics
from pipeline.fetch import Batcher, bound_buffer
from pipeline.settings import load_settings
from schemas.topics import BACKFILL, MESSAGE
from tests.site import until
from tests.stack import Servers

ROWS, BACKLOG = 200, 4000


@pytest.fixture
async def client(servers: Servers) -> AsyncIterator[AIOKafkaConsumer]:
    """Reads both topics from their beginnings; a backlog is on one of them."""
    kafka, prefix = await servers.kafka(), f"f{secrets.token_hex(4)}."
    environment = {"WAPIPE_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap, "WAPIPE_TOPIC_PREFIX": prefix}
    await apply_topics(load_settings(environment).kafka, [BACKFILL, MESSAGE])
    await put(kafka.bootstrap, prefix + BACKFILL.name, BACKLOG)
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, enable_auto_commit=False, fetch_max_wait_ms=100)
    await consumer.start()
    partitions = [TopicPartition(prefix + t.name, p) for t in (BACKFILL, MESSAGE) for p in range(t.partitions)]
    consumer.assign(partitions)
    await consumer.seek_to_beginning(*partitions)
    bound_buffer(consumer)
    yield consumer
    await consumer.stop()


async def put(bootstrap: str, topic: str, count: int) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    async with producer:
        for sent in [await producer.send(topic, b"x" * 500, key=b"%d" % n) for n in range(count)]:
            await sent


async def test_live_records_do_not_wait_until_a_backlog_in_memory_is_used_up(
    client: AIOKafkaConsumer, servers: Servers
) -> None:
    old, live = sorted({tp.topic for tp in client.assignment()})
    assert old.endswith(BACKFILL.name)
    batcher = Batcher(ROWS, 10**8, 0.02, behind={old})
    first: list[Any] = []
    while not first:  # empty while nothing came
        first = await batcher.next(client)
    assert {record.topic for record in first} == {old}
    await put((await servers.kafka()).bootstrap, live, 50)

    async def arrived() -> bool | None:
        """In the buffer, while nobody takes anything out of it."""
        return any(tp.topic == live for tp in client._fetcher._records) or None

    await until(arrived, "live records beside the backlog")
    assert any(tp.topic == old for tp in client._fetcher._records)
    second = await batcher.next(client)
    assert second[0].topic == live
    taken = [*first, *second]
    while len(taken) < BACKLOG + 50:
        taken += await batcher.next(client)
    places = [(record.topic, record.partition, record.offset) for record in taken]
    assert len(set(places)) == BACKLOG + 50
    by_partition: dict[tuple[str, int], list[int]] = {}
    for topic, partition, offset in places:
        by_partition.setdefault((topic, partition), []).append(offset)
    assert all(offsets == list(range(len(offsets))) for offsets in by_partition.values())
