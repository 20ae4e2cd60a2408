"""The broker is away when everything starts: the ingress spools, consumers wait, and both go on when it comes."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from pipeline.broker import apply_topics
from pipeline.local.child import Child
from pipeline.migrate import migrate
from pipeline.registry import consumer_names
from pipeline.settings import load_settings
from schemas.topics import all_topics
from tests.conftest import make_environment
from tests.e2e.test_bad_input import body
from tests.site import Site, start_process, until, wait_ready
from tests.stack import Servers


async def test_everything_boots_without_a_broker_and_goes_on_when_it_is_there(servers: Any, tmp_path: Path) -> None:
    own = Servers()
    try:
        kafka = await own.kafka()
        environment = await make_environment(servers) | {"WAPIPE_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap}
        consumer = {"WAPIPE_METRICS_PORT": environment["WAPIPE_INGRESS_PORT"]}
        settings = load_settings(environment)
        await migrate(settings.database)
        await apply_topics(settings.kafka, all_topics(consumer_names()))
        await kafka.child.stop()
        async with AsyncExitStack() as stack:
            gateway = await start_process(stack, "gateway", environment, tmp_path)
            messages = await start_process(stack, "messages", environment | consumer, tmp_path)
            http = await stack.enter_async_context(httpx.AsyncClient(base_url=settings.origin, timeout=30))
            site = Site(settings, http, {}, tmp_path)
            spooled = await until(lambda: _answer(site), "an answer")
            assert (spooled.status_code, spooled.text) == (200, "")
            unready = await until(lambda: _ready_answer(settings.api.port), "the gateway's answer")
            assert (unready.status_code, unready.json()["reason"]) == (503, "broker_away")
            waiting = await until(lambda: _ready_answer(int(consumer["WAPIPE_METRICS_PORT"])), "the consumer's answer")
            assert waiting.status_code == 503
            again = Child(kafka.child.service, tmp_path / "kafka.log")
            await again.start()
            try:
                await wait_ready("gateway", settings.api.port, gateway, tmp_path)
                await wait_ready("messages", int(consumer["WAPIPE_METRICS_PORT"]), messages, tmp_path)
                await until(lambda: _stored(settings.database.dsn(), 1), "the spooled message to be stored")
                taken = await site.post(body("LATER"))
                assert taken.status_code == 200, taken.text
                await until(lambda: _stored(settings.database.dsn(), 2), "the message to be stored")
            finally:
                await stack.aclose()
                await again.stop()
    finally:
        await own.close()


async def _answer(site: Site) -> httpx.Response | None:
    try:
        return await site.post(body("BOOT"))
    except httpx.TransportError:
        return None  # not listening yet


async def _ready_answer(port: int) -> httpx.Response | None:
    async with httpx.AsyncClient() as client:
        try:
            return await client.get(f"http://127.0.0.1:{port}/ready")
        except httpx.TransportError:
            return None


async def _stored(dsn: str, count: int) -> bool | None:
    connection = await asyncpg.connect(dsn)
    try:
        return True if await connection.fetchval("SELECT count(*) FROM whatsapp_gateway.messages") == count else None
    finally:
        await connection.close()
