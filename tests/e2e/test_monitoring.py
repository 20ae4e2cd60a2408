"""What real processes show of themselves, number by number: under traffic, with bad input, with the database locked, shut
and back, shared by two, and against a retention of its own."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from consumers.messages import Messages
from pipeline import metrics
from pipeline.broker import client_options
from pipeline.ledger import Line, read_ledger
from pipeline.local.ports import free_port
from schemas.topics import MESSAGE
from tests.conftest import make_environment
from tests.scraped import Scraped
from tests.site import Site, fixture_lines, running, start_process, until, wait_ready

CONSUMERS = ("messages", "contacts", "sessions")


@pytest.fixture(scope="module")
async def environment(servers: Any) -> dict[str, str]:
    return await make_environment(servers)


@pytest.fixture(scope="module")
async def site(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with running(environment, tmp_path_factory.mktemp("site"), "gateway", *CONSUMERS) as started:
        yield started


def body(raw_id: str, event: str = "message", engine: str = "NOWEB", **payload: Any) -> bytes:
    said = {"id": f"false_4915100@c.us_{raw_id}", "timestamp": time.time_ns() // 10**9, "body": "hello", **payload}
    return json.dumps({"event": event, "session": "seen", "engine": engine, "payload": said}).encode()


async def caught_up(site: Site) -> dict[str, Scraped]:
    """Every consumer's numbers once none of them shows a lag."""

    async def probe() -> dict[str, Scraped] | None:
        found = {name: await site.scrape(name) for name in CONSUMERS}
        shown = all(any(s.find("wapipe_lag_records")) for s in found.values())
        return found if shown and not any(s.total("wapipe_lag_records") for s in found.values()) else None

    ledger = await read_ledger(site.settings)
    await site.settled(ledger.received + ledger.parked)
    return await until(probe, "every lag to be 0")


def line_of(ledger: Any, consumer: str) -> Line:
    found: Line = next(line for line in ledger.lines if line.consumer == consumer)
    return found


async def test_what_came_in_and_what_became_of_it(site: Site) -> None:
    """First of all: the numbers since the processes began are those of the books, which know who has read nothing yet."""
    before = await read_ledger(site.settings)
    assert [(line.consumer, line.records, line.lag) for line in before.lines] == [(n, 0, 0) for n in sorted(CONSUMERS)]
    gateway = await site.scrape("gateway")
    good = [body(f"A{n}") for n in range(30)] + [body("A0")] * 2 + [body("B", engine="WEBJS"), body("C", engine="FAX")]
    reaction = next(s["body"].encode() for s in fixture_lines("waha_samples") if s["event"] == "message.reaction")
    more = [reaction, body("S", "something.new"), body("T", "something.newer")]
    dead = [
        b'{"event":"message","session":"seen","payload":{}}',
        b'{"event":"message","session":"seen","payload":{"id":"A1"}}',
        b'{"event":"session.status","session":"seen","payload":{}}',
    ]
    parked = [b"{", b'{"session":"seen"}']
    for raw in [*good, *more, *dead, *parked]:
        assert (await site.post(raw)).status_code == 200
    assert (await site.post(good[0], headers={})).status_code == 401
    assert (await site.post(good[0], headers={"X-Webhook-Hmac": "00"})).status_code == 401
    ledger = await site.settled(len(good) + len(more) + len(dead) + len(parked))
    consumers = await caught_up(site)

    came = await site.scrape("gateway") - gateway
    events = len(good) + len(more) + len(dead)
    assert came.by("reason", "wapipe_ingress_answers_total") == {
        "ok": events, "parked": len(parked), "unsigned": 1, "wrong_signature": 1,
    }  # fmt: skip
    assert came.by("code", "wapipe_ingress_answers_total") == {"200": events + len(parked), "401": 2}
    assert came.by("event", "wapipe_ingress_events_total") == {
        "message": len(good) + 2, "message.reaction": 1, "session.status": 1, "other": 2,
    }  # fmt: skip
    engines = Counter(json.loads(raw).get("engine", "other") for raw in [*good, *more, *dead])
    engines["other"] += engines.pop("FAX")
    assert came.by("engine", "wapipe_ingress_events_total") == engines
    assert came.total("wapipe_ingress_seconds_count") == events + len(parked) + 2
    assert came.total("wapipe_ingress_bytes_total") == sum(map(len, [*good, *more, *dead, *parked]))

    for name, shown in consumers.items():
        line = line_of(ledger, name)
        outcomes = {o: getattr(line, o) for o in metrics.OUTCOMES if getattr(line, o)}
        assert shown.by("outcome", "wapipe_records_total", consumer=name) == outcomes
        assert shown.total("wapipe_batch_rows_sum") == line.records
        batches = shown.total("wapipe_batch_rows_count")
        limit = site.settings.consumer.batch_rows
        assert shown.total("wapipe_batch_fill_ratio_sum") == pytest.approx(line.records / limit)
        assert shown.total("wapipe_batch_fill_ratio_count") == shown.total("wapipe_batch_seconds_count") == batches
        assert shown.total("wapipe_stage_seconds_count", stage="write") == batches
        assert shown.total("wapipe_stage_seconds_count", stage="decode") == batches
        assert 0 < shown.total("wapipe_stage_seconds_sum", stage="write") <= shown.total("wapipe_batch_seconds_sum")
        skipped = Counter[str]()
        for event, count in line.skipped_events.items():
            skipped[metrics.known(event, metrics.EVENTS)] += count
        assert shown.by("event", "wapipe_skipped_total") == skipped == {}  # every consumer wants all of its topics
        assert shown.total("wapipe_rebalances_total") >= 1
        assert shown.total("wapipe_paused") == 0
    messages = consumers["messages"]
    assert 0 < messages.total("wapipe_record_age_seconds") < 60
    assert messages.by("reason", "wapipe_dead_letters_total") == {"message_id_missing": 1, "chat_missing": 1}
    assert consumers["sessions"].by("reason", "wapipe_dead_letters_total") == {"status_missing": 1}
    assert messages.by("outcome", "wapipe_records_total")["merged"] == 2

    async def committed() -> bool | None:
        return True if (await site.scrape("messages")).total("wapipe_commits_total", result="ok") else None

    await until(committed, "an offset commit")
    assert messages.total("wapipe_commits_total", result="failed") == 0


async def test_every_label_is_in_its_closed_set(site: Site) -> None:
    bounded = {
        "consumer": set(CONSUMERS),
        "topic": {t.removeprefix(site.settings.kafka.topic_prefix) for t in await topics_of(site)},
        "source": {"default"},
        "partition": {str(n) for n in range(MESSAGE.partitions)},
        "status": {"200", "401", "404", "405", "422", "500", "503"},
        "route": {"unmatched", "/health", "/ready", "/metrics", "/api/sessions"},
    }
    assert set(bounded) == set(metrics.BOUNDED_LABELS)
    await site.get("/api/sessions")
    await site.http.get("/4915100@c.us")
    seen: set[tuple[str, str]] = set()
    for name in site.ports:
        for (sample, labels), _ in (await site.scrape(name)).samples.items():
            if not sample.startswith("wapipe_"):
                continue
            family = sample.removesuffix("_total").removesuffix("_bucket").removesuffix("_sum").removesuffix("_count")
            for label, value in labels - {(k, v) for k, v in labels if k == "le"}:
                closed = metrics.LABEL_SETS.get((family, label)) or bounded[label]
                assert value in closed, (sample, label, value)
                seen.add((family, label))
    assert len(seen) > 20


async def topics_of(site: Site) -> set[str]:
    admin = AIOKafkaAdminClient(**client_options(site.settings.kafka))
    await admin.start()
    try:
        return {t for t in await admin.list_topics() if t.startswith(site.settings.kafka.topic_prefix)}
    finally:
        await admin.close()


async def test_each_process_shows_what_it_costs(site: Site) -> None:
    for name in site.ports:
        shown = await site.scrape(name)
        assert 2e7 < shown.total("process_resident_memory_bytes") < 2e9
        assert shown.total("process_cpu_seconds_total") > 0
        assert shown.total("process_open_fds") > 3
        assert time.time() - 600 < shown.total("process_start_time_seconds") <= time.time()
        assert {labels["generation"] for labels, _ in shown.find("python_gc_collections_total")} == {"0", "1", "2"}


@asynccontextmanager
async def books_locked(site: Site) -> AsyncIterator[None]:
    """Nobody can store anything, and nothing is wrong with anybody's connection."""
    connection = await asyncpg.connect(site.settings.database.dsn())
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE whatsapp_gateway.progress IN EXCLUSIVE MODE")
            yield
    finally:
        await connection.close()


async def test_lag_in_records_and_seconds_and_against_retention(site: Site) -> None:
    await caught_up(site)
    topic = MESSAGE.name
    idle = await site.scrape("messages")
    assert {v for _, v in idle.find("wapipe_lag_seconds")} == {0.0}
    assert {v for _, v in idle.find("wapipe_retention_left_seconds", topic=topic)} == {MESSAGE.retention_ms / 1000}
    assert len(list(idle.find("wapipe_lag_records", topic=topic))) == MESSAGE.partitions
    async with books_locked(site):
        began = time.time()
        for n in range(25):
            await site.post(body(f"L{n}"))

        async def shown() -> Scraped | None:
            found = await site.scrape("messages")
            return found if found.total("wapipe_lag_records", topic=topic) == 25 else None

        lagging = await until(shown, "25 records to lag")
        [(labels, age)] = [(x, v) for x, v in lagging.find("wapipe_lag_seconds", topic=topic) if v]
        assert lagging.total("wapipe_lag_records", partition=labels["partition"], topic=topic) == 25
        assert 0 < age <= time.time() - began
        left = lagging.total("wapipe_retention_left_seconds", topic=topic, partition=labels["partition"])
        assert left == pytest.approx(MESSAGE.retention_ms / 1000 - age, abs=1)

        async def older() -> float | None:
            found = (await site.scrape("messages")).total("wapipe_lag_seconds", topic=topic)
            return found if found > age + 1 else None

        waited = await until(older, "it to grow")
        # The oldest is in memory, so its own time is known: of publishing, a moment after the first post began.
        assert time.time() - began - 2 < waited <= time.time() - began
        ready = await site.http.get(f"http://127.0.0.1:{site.ports['messages']}/ready")
        health = await site.http.get(f"http://127.0.0.1:{site.ports['messages']}/health")
        assert (ready.status_code, health.status_code) == (200, 200)  # slow is neither broken nor stuck
    consumers = await caught_up(site)
    assert consumers["messages"].total("wapipe_lag_seconds") == 0


async def test_a_database_that_is_away_is_a_pause(site: Site) -> None:
    await caught_up(site)
    before = await site.scrape("messages")
    name = site.settings.database.name
    admin = await asyncpg.connect(site.settings.database.model_copy(update={"name": "postgres"}).dsn())
    port = site.ports["messages"]
    try:
        await admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
        await site.post(body("P"))

        async def paused() -> Scraped | None:
            found = await site.scrape("messages")
            return found if found.total("wapipe_retries_total", reason="postgres") > 2 else None

        during = await until(paused, "the consumer to pause")
        assert during.by("reason", "wapipe_paused", consumer="messages") == {"postgres": 1}
        ready = await site.http.get(f"http://127.0.0.1:{port}/ready")
        assert (ready.status_code, ready.json()["reason"]) == (503, "postgres_away")
        assert (await site.http.get(f"http://127.0.0.1:{port}/health")).status_code == 200
    finally:
        await admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
        await admin.close()
    after = (await caught_up(site))["messages"]
    assert after.total("wapipe_paused") == 0
    assert (after - before).by("outcome", "wapipe_records_total") == {"written": 1}
    assert (after - before).total("wapipe_dead_letters_total") == 0


async def test_two_processes_share_the_partitions_they_show(
    site: Site, environment: dict[str, str], tmp_path: Path
) -> None:
    await caught_up(site)
    before = await site.scrape("messages")
    kept_s = {t.name: 3600.0 + n for n, t in enumerate(Messages.topics)} | {MESSAGE.name: math.inf}
    for topic, seconds in kept_s.items():
        await set_retention(site, topic, -1 if seconds == math.inf else int(seconds * 1000))
    async with AsyncExitStack() as stack, httpx.AsyncClient() as http:
        port = free_port()
        process = await start_process(stack, "messages", environment | {"WAPIPE_METRICS_PORT": str(port)}, tmp_path)
        await wait_ready("messages", port, process, tmp_path)

        async def shared() -> tuple[Scraped, Scraped] | None:
            old = await site.scrape("messages")
            new = Scraped.of((await http.get(f"http://127.0.0.1:{port}/metrics")).text)
            return (old, new) if partitions_shown(old) and partitions_shown(new) else None

        old, new = await until(shared, "both to show their partitions")
        assert not partitions_shown(old) & partitions_shown(new)
        assert partitions_shown(old) | partitions_shown(new) == partitions_shown(before)
        assert (old - before).total("wapipe_rebalances_total") >= 1
        # The new process has asked the broker, which was told something else than schemas/topics.py says.

        async def told() -> bool | None:
            shown = Scraped.of((await http.get(f"http://127.0.0.1:{port}/metrics")).text)
            left_s = {x["topic"]: v for x, v in shown.find("wapipe_retention_left_seconds") if x["topic"] in kept_s}
            return True if left_s and all(kept_s[topic] == v for topic, v in left_s.items()) else None

        await until(told, "the broker's retention to be shown")

    async def whole() -> bool | None:
        return True if partitions_shown(await site.scrape("messages")) == partitions_shown(before) else None

    await until(whole, "the first one to show all partitions again")


def partitions_shown(shown: Scraped) -> set[tuple[str, str]]:
    """Of which partitions the process shows a lag."""
    return {(labels["topic"], labels["partition"]) for labels, _ in shown.find("wapipe_lag_seconds")}


async def set_retention(site: Site, topic: str, retention_ms: int) -> None:
    admin = AIOKafkaAdminClient(**client_options(site.settings.kafka))
    await admin.start()
    try:
        name = site.settings.kafka.topic_prefix + topic
        change = ConfigResource(ConfigResourceType.TOPIC, name, {"retention.ms": str(retention_ms)})
        await admin.alter_configs([change])
    finally:
        await admin.close()


async def test_the_books_over_http_are_the_books(site: Site) -> None:
    await caught_up(site)

    async def read() -> dict[str, Any] | None:
        found: dict[str, Any] = await site.get("/api/ledger")
        return found if found["lag"] == 0 else None

    found = await until(read, "an answer that is newer than the last record")
    ledger = await read_ledger(site.settings)
    found.pop("as_of")
    assert found == ledger.as_dict()
    assert found["difference"] == 0
    assert (await asyncio.to_thread(httpx.get, f"{site.settings.origin}/api/ledger")).status_code == 401
