"""The broker deletes records that nobody has read: nothing brings them back, so it must be said and counted."""

from __future__ import annotations

from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from pipeline.broker import admin_client, client_options, log_bounds, topic_states
from schemas.topics import MESSAGE
from tests.faults.outcome import Outcome
from tests.faults.records import good, put, stored_numbers
from tests.faults.rig import PATIENCE_S, Rig, Site
from tests.site import until

_EACH = 300


async def retention(rig: Rig, logs: Path) -> Outcome:
    """300 records are read, 300 deleted unread while the broker restarts, 300 come afterwards."""
    outcome = Outcome("retention deletes unread records, the broker restarts")
    async with rig.site(logs, "messages") as site:
        read, deleted, later = (range(n * _EACH, (n + 1) * _EACH) for n in range(3))
        outcome.received = await put(site, map(good, read))
        await site.settled(outcome.received)
        await site.members["messages"].stop()
        outcome.received += await put(site, map(good, deleted))
        await _delete(rig, site)
        outcome.received += await put(site, map(good, later))
        member = await site.add("messages")
        await member.ready()
        books = await site.settled(outcome.received)
        stored = await stored_numbers(site)
        expected = {*read, *later}
        outcome.messages, outcome.stored = len(expected), stored.total()
        outcome.doubled, outcome.lost = stored.total() - len(stored), len(expected - stored.keys())
        outcome.strange = len(stored.keys() - expected)
        outcome.difference = books.difference
        (line,) = [line for line in books.lines if line.consumer == "messages"]
        outcome.notes["gap"] = f"{line.gap} of {_EACH} deleted"
        assert line.gap == _EACH
        assert await member.metric('wapipe_retention_lost_records_total{consumer="messages"}') == _EACH
        assert member.said("offsets.lost") > 0
        assert site.strange_ends(0) == {}
    return outcome


async def _delete(rig: Rig, site: Site) -> None:
    """Retention of a millisecond until everything is gone; the broker is away and back meanwhile."""
    async with admin_client(site.settings.kafka) as client:
        await _keep_for(client, site, "1")
    await rig.kafka.down()
    await rig.kafka.up()
    (state,) = await topic_states(site.settings.kafka, [MESSAGE])
    partitions = [TopicPartition(state.name, p) for p in range(state.partitions)]
    consumer = AIOKafkaConsumer(**client_options(site.settings.kafka))
    await consumer.start()
    try:
        consumer.assign(partitions)

        async def empty() -> bool | None:
            bounds = await log_bounds(consumer, partitions)
            return True if all(begin == end for begin, end in bounds.values()) else None

        await until(empty, "the broker to delete everything", PATIENCE_S)
    finally:
        await consumer.stop()
    async with admin_client(site.settings.kafka) as client:
        await _keep_for(client, site, MESSAGE.config()["retention.ms"])


async def _keep_for(client: AIOKafkaAdminClient, site: Site, retention_ms: str) -> None:
    name = site.settings.kafka.topic_prefix + MESSAGE.name
    config = MESSAGE.config() | {"retention.ms": retention_ms}
    await client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, config)])
