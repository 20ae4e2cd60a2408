"""The ingress' policy: broker first, spool behind it, one asks while the others pass, drained before it is ready."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pipeline.errors import ConfigError, PoisonError, TransientError
from pipeline.settings import Settings, load_settings
from pipeline.spool.contents import read_spool
from pipeline.spool.record import Record
from pipeline.spool.slot import claim
from producers.spool import Sink, SpoolingPublisher, open_spool
from schemas.topics import MAX_RECORD_BYTES
from tests.site import until
from tests.spooling import Broker, leave_slot, record, records, values
from tests.unit.ingress_client import counted


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("producers.spool._PROBE_EVERY_S", 0.01)
    monkeypatch.setattr("producers.spool._LOOK_FOR_LEFTOVERS_S", 0.01)


def settings(root: Path, max_bytes: int = 10**8) -> Settings:
    return load_settings({"WAPIPE_SPOOL_DIR": str(root), "WAPIPE_SPOOL_MAX_BYTES": str(max_bytes)})


@asynccontextmanager
async def spooling(root: Path, broker: Broker, max_bytes: int = 10**8) -> AsyncIterator[SpoolingPublisher]:
    async with open_spool(settings(root, max_bytes), broker) as sink:
        assert isinstance(sink, SpoolingPublisher)
        yield sink


async def publish(sink: Sink, one: Record) -> None:
    await sink.publish(one.topic, one.key, one.value, one.headers, deadline_s=1)


async def drained(sink: SpoolingPublisher) -> None:
    async def probe() -> bool | None:
        return True if sink.ready else None

    await until(probe, "the spool to be drained", 20)


async def test_with_a_broker_nothing_is_spooled(tmp_path: Path) -> None:
    broker = Broker()
    async with spooling(tmp_path, broker) as sink:
        await drained(sink)
        for one in records(3):
            await publish(sink, one)
        assert (broker.values, sink.records, sink.size_bytes, sink.oldest_s) == (values(records(3)), 0, 0, 0.0)
    assert [s.segments for s in read_spool(tmp_path, "")] == [0]


async def test_without_a_broker_records_are_durable_and_come_in_order_when_it_is_back(tmp_path: Path) -> None:
    broker = Broker(away=True)
    async with spooling(tmp_path, broker) as sink:
        for one in records(300):
            await publish(sink, one)
        assert (sink.records, sink.ready, sink.draining) == (300, False, False)
        assert sink.size_bytes > 0
        assert sink.oldest_s >= 0
        assert sum(s.records for s in read_spool(tmp_path, "")) == 300
        broker.away = False
        assert (sink.ready, sink.draining) == (False, True)
        await drained(sink)
        assert (sink.records, sink.size_bytes) == (0, 0)
    got = [r.value for r in broker.taken]
    assert list(dict.fromkeys(got)) == values(records(300))
    assert [(r.topic, r.key, r.headers) for r in broker.taken[:1]] == [
        ("waha.message", b"key-0", [("event", b"message"), ("event-id", b"e0")])
    ]


async def test_while_the_broker_is_away_the_drain_alone_asks_for_it(tmp_path: Path) -> None:
    broker = Broker(gate=asyncio.Event())
    assert broker.gate is not None
    async with spooling(tmp_path, Broker(away=True)) as sink:
        await publish(sink, record(0))
        sink._publisher = broker  # a broker that answers nobody for as long as the gate is closed
        async with asyncio.timeout(20):  # nobody waits for it
            for number in range(1, 50):
                await publish(sink, record(number))
        assert broker.tries <= 1
        broker.gate.set()
        await drained(sink)
    assert broker.values == values(records(50))


async def test_after_the_first_acknowledgement_requests_go_to_the_broker_again(tmp_path: Path) -> None:
    broker = Broker(away=True)
    async with spooling(tmp_path, broker) as sink:
        for one in records(5):
            await publish(sink, one)
        broker.away = False

        async def acknowledged() -> bool | None:
            return True if broker.taken else None

        await until(acknowledged, "the first acknowledgement", 20)
        await drained(sink)
        before = counted("wapipe_spooled_total")
        await publish(sink, record(6))
        assert counted("wapipe_spooled_total") == before
        assert broker.values[-1] == record(6).value


async def test_the_next_process_drains_what_one_left(tmp_path: Path) -> None:
    async with spooling(tmp_path, Broker(away=True)) as sink:
        for one in records(20):
            await publish(sink, one)
    broker = Broker()
    async with spooling(tmp_path, broker) as sink:
        assert not sink.ready  # before it has looked
        await drained(sink)
    assert broker.values == values(records(20))


async def test_leftovers_of_dead_neighbours_are_drained_too(tmp_path: Path) -> None:
    live, dead = claim(tmp_path, ""), leave_slot(tmp_path, records(7))
    broker = Broker()
    async with spooling(tmp_path, broker) as sink:
        await drained(sink)
        assert broker.values == values(records(7))
        live.close()
        later = leave_slot(tmp_path, records(9)[7:])
        assert later == live.path

        async def adopted() -> bool | None:
            return True if len(broker.values) == 9 else None

        await until(adopted, "the directory of a process that died meanwhile", 20)
    assert broker.values == values(records(9))
    assert dead.is_dir()


async def test_a_neighbour_that_lives_is_left_alone(tmp_path: Path) -> None:
    first, second = Broker(away=True), Broker()
    async with spooling(tmp_path, first) as one, spooling(tmp_path, second) as two:
        await publish(one, record(1))
        await drained(two)
        assert (one.records, second.values) == (1, [])


async def _publish_for_ever(sink: Sink) -> None:
    for number in itertools.count():
        await publish(sink, record(number))


async def test_a_full_spool_is_told_and_counted(tmp_path: Path) -> None:
    before = counted("wapipe_spool_refused_total", reason="full")
    async with spooling(tmp_path, Broker(away=True), max_bytes=1000) as sink:
        with pytest.raises(TransientError, match="full") as caught:
            await _publish_for_ever(sink)
        assert caught.value.dependency == "spool"
        kept = sink.records
    assert counted("wapipe_spool_refused_total", reason="full") == before + 1
    assert sum(s.records for s in read_spool(tmp_path, "")) == kept > 0


async def test_a_spool_that_can_take_nothing_does_not_keep_requests_from_the_broker(tmp_path: Path) -> None:
    broker = Broker(away=True)
    async with spooling(tmp_path, broker, max_bytes=1) as sink:
        with pytest.raises(TransientError):
            await publish(sink, record(1))
        broker.away = False
        await publish(sink, record(2))
    assert broker.values == [record(2).value]


async def test_too_large_is_said_whether_the_broker_is_there_or_not(tmp_path: Path) -> None:
    broker = Broker(large={record(1).value})
    async with spooling(tmp_path, broker) as sink:
        with pytest.raises(PoisonError):
            await publish(sink, record(1))
        broker.away = True
        with pytest.raises(PoisonError):
            await publish(sink, record(2, MAX_RECORD_BYTES))
        assert sink.records == 0


async def test_a_record_refused_while_draining_does_not_keep_it_from_being_ready(tmp_path: Path) -> None:
    leave_slot(tmp_path, records(3))
    broker, before = Broker(large={record(1).value}), counted("wapipe_spool_set_aside_total", flaw="refused")
    async with spooling(tmp_path, broker) as sink:
        await drained(sink)
    assert broker.values == values([record(0), record(2)])
    assert counted("wapipe_spool_set_aside_total", flaw="refused") == before + 1


async def test_no_bytes_is_no_spool(tmp_path: Path) -> None:
    broker = Broker(away=True)
    async with open_spool(settings(tmp_path / "none", 0), broker) as sink:
        assert sink is broker
    assert not (tmp_path / "none").exists()


async def test_a_folder_that_cannot_be_had_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="WAPIPE_SPOOL_DIR"):
        async with open_spool(settings(tmp_path / "file"), Broker()):
            pass


async def test_gauges_show_the_spool(tmp_path: Path) -> None:
    async with spooling(tmp_path, Broker(away=True)) as sink:
        await publish(sink, record(1))
        assert counted("wapipe_spool_records") == 1
        assert counted("wapipe_spool_bytes") == sink.size_bytes > 0
        assert counted("wapipe_spool_limit_bytes") == 10**8
        assert counted("wapipe_spool_oldest_seconds") >= 0
