"""One consumer becomes two and one again under traffic: nothing is lost, nothing doubled, both have worked."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import AsyncExitStack
from itertools import takewhile
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from pipeline.local.ports import free_port
from producers.simulator import Delivery, Profile, Report, Target, play, traffic
from tests.conftest import make_environment
from tests.site import Site, end_process, running, start_process, until, wait_ready

RATE_PER_S = 100.0


async def test_a_second_consumer_shares_the_work_and_may_leave_again(servers: Any, tmp_path: Path) -> None:
    environment = await make_environment(servers)
    async with running(environment, tmp_path, "gateway", "messages", "contacts", "sessions") as site:
        stop, report, answered = asyncio.Event(), Report(), set[tuple[str, str]]()

        def on_answer(delivery: Delivery, status: int | None, _latency_s: float, _attempt: int) -> None:
            message_id = delivery.message_id
            if delivery.event == "message.waiting":  # a message that waits for its key is a row already
                message_id = json.loads(delivery.body)["payload"]["id"]
            if status == 200 and message_id is not None:
                answered.add((delivery.session, message_id))

        key = site.settings.ingress.hmac_key
        assert key is not None
        profile = Profile(rate_per_s=RATE_PER_S, sessions=4, chats=20, duplicates=0.05, seed=5)
        deliveries = takewhile(lambda _: not stop.is_set(), traffic(profile, start_ms=time.time_ns() // 1_000_000))
        target = Target(f"{site.settings.origin}/webhook", key.get_secret_value())
        playing = asyncio.create_task(
            play(deliveries, target, rate_per_s=RATE_PER_S, on_answer=on_answer, report=report)
        )
        async with AsyncExitStack() as second:
            port = free_port()
            logs = tmp_path / "second"
            logs.mkdir()
            process = await start_process(second, "messages", environment | {"WAPIPE_METRICS_PORT": str(port)}, logs)
            await wait_ready("messages", port, process, logs)
            await until(lambda: _worked(port), "the second consumer to store something")
            await end_process(process)
            assert process.returncode == 0, (logs / "messages.log").read_text()
        before = report.delivered
        await until(lambda: _reached(report, before + 200), "more traffic for the first one alone")
        stop.set()
        await playing
        assert (report.lost, report.unfinished) == (0, 0)
        books = await site.settled(report.delivered)
        assert books.difference == 0
        stored = await _stored(site)
        assert len(stored) == len(set(stored)), "doubled"
        assert set(stored) == answered


async def _worked(port: int) -> bool | None:
    """True once the process has committed a transaction with messages in it."""
    async with httpx.AsyncClient() as client:
        text = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
    written = [
        x for x in text.splitlines() if x.startswith('wapipe_records_total{consumer="messages",outcome="written"}')
    ]
    return True if written and float(written[0].rsplit(" ", 1)[1]) > 0 else None


async def _reached(report: Report, count: int) -> bool | None:
    return True if report.delivered >= count else None


async def _stored(site: Site) -> list[tuple[str, str]]:
    connection = await asyncpg.connect(site.settings.database.dsn())
    try:
        rows = await connection.fetch("SELECT session, message_id FROM whatsapp_gateway.messages")
    finally:
        await connection.close()
    return [(r["session"], r["message_id"]) for r in rows]
