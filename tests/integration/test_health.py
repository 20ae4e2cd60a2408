"""Health of a consumer is progress: stuck is said, waiting on purpose is not; and its lag has the age of real records."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

import pipeline.lag
import pipeline.runner
from pipeline.broker import client_options
from pipeline.errors import TransientError
from tests.integration.conftest import MakeDesk
from tests.integration.numbers import Desk, Reading
from tests.site import until

Answers = tuple[str | None, str | None]


@pytest.fixture(autouse=True)
def _soon_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes minutes takes a moment."""
    monkeypatch.setattr(pipeline.runner, "_STUCK_AFTER_S", 0.5)
    monkeypatch.setattr(pipeline.runner, "_LOOK_EVERY_S", 0.05)


def answers(reading: Reading, *wanted: Answers) -> Callable[[], Awaitable[Answers | None]]:
    """(alive, ready) once they are one of these."""

    async def probe() -> Answers | None:
        found = reading.runner.alive(), reading.runner.ready()
        return found if found in wanted else None

    return probe


async def stays(reading: Reading, wanted: Answers, seconds: float = 1.5) -> None:
    """Nothing else is answered for longer than being stuck takes."""
    end = time.monotonic() + seconds

    async def probe() -> bool | None:
        assert (reading.runner.alive(), reading.runner.ready()) == wanted
        return True if time.monotonic() > end else None

    await until(probe, "nothing to change")


async def test_a_consumer_that_stores_nothing_is_stuck(make_desk: MakeDesk) -> None:
    desk = await make_desk(1)
    async with desk.reading() as reading:
        await until(answers(reading, (None, None)), "the start")
        await stays(reading, (None, None))  # nothing to do
        reading.consumer.hold.clear()
        await desk.publish(range(5))
        await until(answers(reading, ("no_progress", None)), "it to be called stuck")
        assert desk.metric("wapipe_lag_records", topic=desk.topic.name, partition="0") == 5
        reading.consumer.hold.set()
        await until(answers(reading, (None, None)), "it to go on")
        await desk.settled()


async def test_a_dependency_that_is_away_is_waited_for(make_desk: MakeDesk) -> None:
    desk = await make_desk(1)
    async with desk.reading() as reading:
        await until(answers(reading, (None, None)), "the start")
        reading.consumer.away = True
        await desk.publish(range(5))
        await until(answers(reading, (None, "postgres_away")), "the pause")
        await stays(reading, (None, "postgres_away"))
        assert desk.metric("wapipe_paused", reason="postgres") == 1
        assert desk.metric("wapipe_retries_total", reason="postgres") > 1
        reading.consumer.away = False
        await until(answers(reading, (None, None)), "it to go on")
        assert desk.metric("wapipe_paused", reason="postgres") == 0
        await desk.settled()


async def test_a_broker_that_does_not_answer_is_waited_for(
    make_desk: MakeDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = await make_desk(1)
    async with desk.reading() as reading:
        await until(answers(reading, (None, None)), "the start")
        reading.consumer.hold.clear()
        await desk.publish(range(5))
        await until(answers(reading, ("no_progress", None)), "it to be called stuck")

        async def away(*_: Any) -> Any:
            raise TransientError("kafka", "said the test")

        with monkeypatch.context() as patch:
            patch.setattr(pipeline.lag, "log_bounds", away)
            await until(answers(reading, (None, "kafka_away")), "the broker to be missed")
            await stays(reading, (None, "kafka_away"))
        reading.consumer.hold.set()
        await until(answers(reading, (None, None)), "it to go on")
        await desk.settled()


async def test_a_backlog_is_as_old_as_its_records(make_desk: MakeDesk) -> None:
    """Published an hour before the process came: it is an hour late from the first moment, not from its own start."""
    desk = await make_desk(1)
    hour_ago = time.time() - 3600
    await _publish_at(desk, hour_ago)
    labels = {"topic": desk.topic.name, "partition": "0"}
    kept_s = desk.topic.retention_ms / 1000

    async def shown() -> float | None:
        return desk.metric("wapipe_lag_seconds", **labels) or None

    async with desk.reading() as reading:
        reading.consumer.hold.clear()
        await until(reading_writes(reading), "the record to be in hand")
        age = await until(shown, "its age")
        assert age == pytest.approx(time.time() - hour_ago, abs=5)
        left = desk.metric("wapipe_retention_left_seconds", **labels)
        assert left == pytest.approx(kept_s - 3600, abs=60)
        reading.consumer.hold.set()
        await desk.settled()
        await until(answers(reading, (None, None)), "it to catch up")
        reading.consumer.writing.clear()
        reading.consumer.hold.clear()
        published = time.time()
        await desk.publish([7])
        await until(reading_writes(reading), "the next record to be in hand")
        assert 0 < await until(shown, "its age") <= time.time() - published
        reading.consumer.hold.set()
        await desk.settled()

        async def level() -> bool | None:
            return True if desk.metric("wapipe_lag_records", **labels) == 0 else None

        await until(level, "no lag")
        assert desk.metric("wapipe_lag_seconds", **labels) == 0
        assert desk.metric("wapipe_retention_left_seconds", **labels) == kept_s


def reading_writes(reading: Reading) -> Callable[[], Awaitable[bool | None]]:
    """True once a batch is being written."""

    async def probe() -> bool | None:
        return True if reading.consumer.writing.is_set() else None

    return probe


async def _publish_at(desk: Desk, at_s: float) -> None:
    producer = AIOKafkaProducer(**client_options(desk.settings.kafka))
    await producer.start()
    try:
        topic = desk.settings.kafka.topic_prefix + desk.topic.name
        await producer.send_and_wait(
            topic, b"1", partition=0, headers=[("event", b"number")], timestamp_ms=int(at_s * 1000)
        )
    finally:
        await producer.stop()
