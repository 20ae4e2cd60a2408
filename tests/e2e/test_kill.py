"""kill -9 of every process of a supervised stack under traffic: nothing answered 2xx is lost, nothing is doubled."""

from __future__ import annotations

import asyncio
import json
import random
import time
from itertools import takewhile
from pathlib import Path
from typing import Any

import asyncpg
import psutil

from pipeline.cli.demo import demo_environment, settled_books
from pipeline.local.stack import Stack
from pipeline.settings import Settings, load_settings
from producers.simulator import Delivery, Profile, Report, Retry, Target, play, traffic
from tests.site import until

VICTIMS = ("gateway", "messages", "contacts", "sessions", "kafka", "postgres")
RATE_PER_S = 60.0


async def test_killing_any_process_loses_and_doubles_nothing(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print("seed", seed)
    ports = dict.fromkeys(
        ("WHATSAPP_GATEWAY_API_PORT", "WHATSAPP_DB_PORT", "WAPIPE_LOCAL_KAFKA_PORT", "WHATSAPP_MINIO_API_PORT"), "0"
    )
    environment = demo_environment(ports)
    async with Stack(load_settings(environment), tmp_path / "data", overrides=environment) as stack:
        settings = stack.settings
        key = settings.ingress.hmac_key
        assert key is not None
        stop, report, answered = asyncio.Event(), Report(), dict[str, set[str]]()
        profile = Profile(rate_per_s=RATE_PER_S, sessions=3, chats=8, duplicates=0.05, session_prefix="kill", seed=seed)

        def on_answer(delivery: Delivery, status: int | None, _latency_s: float, _attempt: int) -> None:
            message_id = delivery.message_id
            if delivery.event == "message.waiting":  # a message that waits for its key is a row already
                message_id = json.loads(delivery.body)["payload"]["id"]
            if status is not None and 200 <= status < 300 and message_id is not None:
                answered.setdefault(delivery.session, set()).add(message_id)

        # WAHA waits 2 s and tries 15 times; more tries, so that what is lost is lost by us and not given up by it.
        playing = asyncio.create_task(
            play(
                takewhile(lambda _: not stop.is_set(), traffic(profile, start_ms=time.time_ns() // 1_000_000)),
                Target(f"{settings.origin}/webhook", key.get_secret_value()),
                rate_per_s=RATE_PER_S,
                concurrency=32,
                on_answer=on_answer,
                retry=Retry("constant", 0.5, 100),
                timeout_s=20,
                report=report,
            )
        )
        for victim in VICTIMS:
            await _progress(report, report.delivered + 40)
            await _kill(stack, victim)
            await _restarted(stack, victim)
        await _progress(report, report.delivered + 40)
        stop.set()
        await playing
        assert report.lost == 0
        assert report.unfinished == 0
        books = await settled_books(settings, report.delivered)
        assert (books.lag, books.unread, books.difference) == (0, 0, 0)
        stored = await _stored(settings)
        assert {s: len(i) for s, i in stored.items()} == {s: len(set(i)) for s, i in stored.items()}, "doubled"
        assert {s: set(i) for s, i in stored.items()} == answered
        print(f"{report.delivered} deliveries, {report.retried} retries, {sum(map(len, answered.values()))} messages")


async def _progress(report: Report, count: int) -> None:
    async def probe() -> bool | None:
        return True if report.delivered >= count else None

    await until(probe, f"{count} deliveries answered 2xx", 90)


async def _kill(stack: Stack, name: str) -> None:
    process = next(p for p in stack.snapshot() if p.name == name)
    assert process.pid is not None
    victim = psutil.Process(process.pid)
    for each in [victim, *victim.children(recursive=True)] if name == "postgres" else [victim]:
        each.kill()


async def _restarted(stack: Stack, name: str) -> None:
    async def probe() -> Any:
        state = next(p for p in stack.snapshot() if p.name == name)
        return True if state.restarts >= 1 and state.state == "ready" else None

    await until(probe, f"{name} to come back", 90)


async def _stored(settings: Settings) -> dict[str, list[str]]:
    """Every stored message of the run, by session, doubles included."""
    connection = await asyncpg.connect(settings.database.dsn())
    try:
        rows = await connection.fetch("SELECT session, message_id FROM whatsapp_gateway.messages")
    finally:
        await connection.close()
    stored: dict[str, list[str]] = {}
    for row in rows:
        stored.setdefault(row["session"], []).append(row["message_id"])
    return stored
