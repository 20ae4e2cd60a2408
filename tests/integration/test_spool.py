"""The spool in front of a real broker that goes away and comes back: order, nothing lost, nothing held up; by hand too."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import NewTopic

from pipeline.broker import Publisher, admin_client, apply_topics
from pipeline.errors import TransientError
from pipeline.local.child import Child
from pipeline.settings import Settings, load_settings
from pipeline.spool.contents import read_spool
from pipeline.spool.record import Record
from pipeline.spool.slot import segment_files
from producers.spool import Sink, SpoolingPublisher, open_spool
from schemas.topics import MESSAGE, PARKED
from tests.site import until
from tests.spooling import in_topic, leave_slot, record, records, values
from tests.stack import Servers
from tests.unit.ingress_client import counted
from tests.warm import inherited

CHATS = 7


@dataclass
class Broker:
    """A broker of this module's own, which may be stopped."""

    bootstrap: str
    child: Child

    async def down(self) -> None:
        await self.child.stop()

    async def up(self) -> None:
        self.child = Child(self.child.service, self.child.log)
        await self.child.start()
        await self.child.wait_ready()


@pytest.fixture(scope="module")
async def own() -> AsyncIterator[Broker]:
    servers = Servers()
    kafka = await servers.kafka()
    broker = Broker(kafka.bootstrap, kafka.child)
    try:
        yield broker
    finally:
        await broker.child.stop()
        await servers.close()


@pytest.fixture
async def broker(own: Broker) -> AsyncIterator[Broker]:
    """The broker, up again whatever a test did to it."""
    yield own
    if own.child.returncode is not None:
        await own.up()


def environment(broker: Broker, folder: Path, prefix: str) -> dict[str, str]:
    return {
        "WAPIPE_KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap, "WAPIPE_TOPIC_PREFIX": prefix,
        "WAPIPE_SPOOL_DIR": str(folder),
    }  # fmt: skip


async def site(broker: Broker, folder: Path, prefix: str = "") -> Settings:
    settings = load_settings(environment(broker, folder, prefix))
    await apply_topics(settings.kafka, [MESSAGE, PARKED])
    return settings


def chat_record(number: int) -> Record:
    one = record(number)
    return Record(one.topic, b"chat-%d" % (number % CHATS), one.headers, one.value, one.at_ms)


async def publish(sink: Sink, one: Record, deadline_s: float = 0.5) -> None:
    await sink.publish(one.topic, one.key, one.value, one.headers, deadline_s=deadline_s)


async def drained(sink: Sink, patience_s: float = 60) -> None:
    async def probe() -> bool | None:
        return True if sink.ready else None

    await until(probe, "the spool to be drained", patience_s)


def in_order(found: list[Any], expected: list[Record]) -> None:
    """Every chat's records are there, and their first appearances are in order."""
    wanted = {r.value for r in expected}
    for chat in {r.key for r in expected}:
        seen = list(dict.fromkeys(r.value for r in found if r.key == chat and r.value in wanted))
        assert seen == [r.value for r in expected if r.key == chat]


async def test_an_outage_loses_nothing_and_keeps_order(broker: Broker, tmp_path: Path) -> None:
    settings = await site(broker, tmp_path, "outage.")
    written = [chat_record(n) for n in range(3000)]
    async with Publisher(settings.kafka) as publisher:
        assert await publisher.wait_ready(20)
        async with open_spool(settings, publisher) as sink:
            assert isinstance(sink, SpoolingPublisher)
            await drained(sink)
            for one in written[:300]:
                await publish(sink, one, 30)
            await drained(sink)
            await broker.down()
            for one in written[300:1000]:  # one after the other: the order is known
                await publish(sink, one)
            for start in range(1000, 3000, 100):
                await asyncio.gather(*(publish(sink, one) for one in written[start : start + 100]))
            assert not sink.ready
            assert sink.records >= 2700
            await broker.up()
            await drained(sink)
            assert (sink.records, sink.size_bytes) == (0, 0)
            await publish(sink, chat_record(3000))
    found = await in_topic(settings)
    assert {r.value for r in found} == {r.value for r in [*written, chat_record(3000)]}
    in_order(found, written[300:])  # nothing went past the spool meanwhile
    # Doubled can be what was sent and not acknowledged when the broker went, and what asked for it.
    assert len(found) <= 3001 + 110
    assert {h for r in found for h in r.headers} >= {("event", b"message"), ("event-id", b"e2999")}


async def test_a_restart_in_an_outage_keeps_what_was_spooled(broker: Broker, tmp_path: Path) -> None:
    settings = await site(broker, tmp_path, "restart.")
    written = [chat_record(n) for n in range(60)]
    await broker.down()
    for start in range(0, 60, 20):
        async with Publisher(settings.kafka) as publisher, open_spool(settings, publisher) as sink:
            for one in written[start : start + 20]:
                await publish(sink, one)
    await broker.up()
    async with Publisher(settings.kafka) as publisher, open_spool(settings, publisher) as sink:
        await drained(sink)
    in_order(await in_topic(settings), written)


async def test_a_record_that_the_topic_refuses_is_set_aside(broker: Broker, tmp_path: Path) -> None:
    settings = load_settings(environment(broker, tmp_path, "small."))
    async with admin_client(settings.kafka) as client:
        limited = NewTopic("small.waha.message", 1, 1, topic_configs={"max.message.bytes": "300000"})
        await client.create_topics([limited])
    leave_slot_of(settings, [record(0), record(1, 400_000), record(2)])
    async with Publisher(settings.kafka) as publisher:
        assert await publisher.wait_ready(20)
        async with open_spool(settings, publisher) as sink:
            await drained(sink)
    assert [r.value for r in await in_topic(settings)] == values([record(0), record(2)])
    [slot] = read_spool(tmp_path, "small.")
    assert (slot.records, slot.aside, slot.damaged) == (0, 1, 0)


def leave_slot_of(settings: Settings, *segments: list[Record]) -> Path:
    path = leave_slot(settings.spool_folder, *segments)
    return path.rename(path.with_name(settings.kafka.topic_prefix + path.name))


async def test_a_producer_given_up_between_its_tries_is_replaced(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.broker._SILENCE_BEFORE_RESTART_S", 1.0)
    settings = await site(broker, tmp_path, "replaced.")
    async with Publisher(settings.kafka) as publisher:
        assert await publisher.wait_ready(20)
        await publish(publisher, record(0), 30)
        await broker.down()
        before = counted("wapipe_producer_restarts_total")
        with pytest.raises(TransientError):
            await publish(publisher, record(1))

        async def replaced() -> bool | None:
            return True if counted("wapipe_producer_restarts_total") > before else None

        await until(replaced, "the producer to be given up")
        await broker.up()
        assert await publisher.wait_ready(30)
        await publish(publisher, record(2), 30)
    assert {record(0).value, record(2).value} <= {r.value for r in await in_topic(settings)}


# ---------------------------------------------------------------- by hand
def wapipe(*arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "spool", *arguments],
        env=inherited() | env | {"COLUMNS": "200"}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


async def test_show_verify_and_drain_by_hand(broker: Broker, tmp_path: Path) -> None:
    settings = await site(broker, tmp_path, "hand.")
    env = environment(broker, tmp_path, "hand.")
    path = leave_slot_of(settings, records(500), records(700)[500:])
    shown = json.loads(wapipe("show", "--json", env=env).stdout)
    assert [(d["name"], d["records"], d["held_by"]) for d in shown["directories"]] == [("hand.slot-0000", 700, None)]
    assert "700 records" in wapipe("verify", env=env).stdout
    assert "700" in wapipe("show", env=env).stdout
    done = wapipe("drain", env=env)
    assert done.returncode == 0, done.stderr
    assert sorted(r.value for r in await in_topic(settings)) == sorted(values(records(700)))
    assert segment_files(path) == []
    again = wapipe("drain", "--dir", str(tmp_path), env=env | {"WAPIPE_SPOOL_DIR": ""})
    assert (again.returncode, "0 records" in again.stdout) == (0, True)


async def test_damage_is_exit_1_until_somebody_took_it_away(broker: Broker, tmp_path: Path) -> None:
    settings = await site(broker, tmp_path, "damage.")
    env = environment(broker, tmp_path, "damage.")
    path = leave_slot_of(settings, records(3))
    file = path / "0000000001.spool"
    file.write_bytes(file.read_bytes().replace(record(1).value, b"?" * 20))
    checked = wapipe("verify", env=env)
    assert (checked.returncode, "damaged in 1 places" in checked.stdout) == (1, True)
    assert wapipe("drain", env=env).returncode == 1
    assert sorted(r.value for r in await in_topic(settings)) == values([record(0), record(2)])
    assert json.loads(wapipe("verify", "--json", env=env).stdout)["directories"][0]["damaged"] == 1
    [aside] = segment_files(path / "aside")
    aside.unlink()
    assert wapipe("verify", env=env).returncode == 0


async def test_drain_without_a_broker_removes_nothing(broker: Broker, tmp_path: Path) -> None:
    settings = await site(broker, tmp_path, "gone.")
    path = leave_slot_of(settings, records(3))
    nobody = environment(broker, tmp_path, "gone.") | {"WAPIPE_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    failed = await asyncio.to_thread(wapipe, "drain", env=nobody)
    assert (failed.returncode, "nothing was removed" in failed.stderr) == (75, True)
    assert len(segment_files(path)) == 1
    with pytest.raises(TransientError):
        await publish(Publisher(load_settings(nobody).kafka), record(1))


async def test_drain_leaves_a_running_ingress_alone(broker: Broker, tmp_path: Path) -> None:
    settings = await site(broker, tmp_path, "held.")
    async with Publisher(settings.kafka) as publisher, open_spool(settings, publisher):
        done = await asyncio.to_thread(wapipe, "drain", env=environment(broker, tmp_path, "held."))
        assert (done.returncode, "held by a running process" in done.stdout) == (0, True)
        shown = await asyncio.to_thread(wapipe, "show", env=environment(broker, tmp_path, "held."))
        assert f"process {os.getpid()}" in shown.stdout
