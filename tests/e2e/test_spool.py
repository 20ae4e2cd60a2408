"""The ingress as a process whose broker is away: killed while it spools, and with its disk full. No 200 is ever lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import secrets
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from pipeline.broker import apply_topics
from pipeline.local.child import Child
from pipeline.local.ports import free_port
from pipeline.registry import consumer_names
from pipeline.settings import Settings, load_settings
from pipeline.spool.record import Kind, decode
from pipeline.spool.segment import Segment, read_content
from pipeline.spool.slot import read_position, segment_files, slot_folders
from schemas.topics import all_topics
from tests.site import start_process, until, wait_ready
from tests.spooling import in_topic
from tests.stack import Servers
from tests.unit.ingress_client import EVENT, signed
from tests.warm import WarmProcess

KEY = secrets.token_hex(16)


@dataclass
class Ingress:
    """An ingress process, and what it was told. `acknowledged`: ids of the events that were answered 200."""

    settings: Settings
    environment: dict[str, str]
    broker: Child
    logs: Path
    acknowledged: set[str] = field(default_factory=set)
    answers: Counter[tuple[int, str]] = field(default_factory=Counter)

    async def start(self, stack: AsyncExitStack) -> WarmProcess:
        """Returns when it listens."""
        process = await start_process(stack, "ingress", self.environment, self.logs)

        async def listening() -> bool | None:
            async with self.http() as client:
                with contextlib.suppress(httpx.TransportError):
                    await client.get("/health")
                    return True
            return None

        await until(listening, "the ingress to listen")
        return process

    def http(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.settings.ingress.port}", timeout=60)

    async def post(self, numbers: range, size: int = 300, senders: int = 32) -> None:
        """Posts these events from many connections; ends early when the process is gone."""
        left = iter(numbers)

        async def send(client: httpx.AsyncClient) -> None:
            for number in left:
                body = orjson.dumps(EVENT | {"id": f"evt_{number}", "more": "x" * size})
                answer = await client.post("/webhook", content=body, headers=signed(body, KEY))
                self.answers[answer.status_code, answer.text] += 1
                if answer.status_code == 200:
                    self.acknowledged.add(f"evt_{number}")

        with contextlib.suppress(httpx.TransportError):
            async with self.http() as client, asyncio.TaskGroup() as group:
                for _ in range(senders):
                    group.create_task(_until_gone(send(client)))

    def spooled(self) -> set[str]:
        """Ids of the events on disk, read as any other program would."""
        found: set[str] = set()
        for folder in slot_folders(self.settings.spool_folder, self.settings.kafka.topic_prefix):
            for path in segment_files(folder):
                content = read_content(Segment(path), read_position(folder))
                assert content.of(Kind.DAMAGED) == []
                found |= {orjson.loads(decode(content.data, p).value)["id"] for p in content.of(Kind.GOOD)}
        return found

    async def broker_up(self) -> Child:
        again = Child(self.broker.service, self.logs / "kafka.log")
        await again.start()
        await again.wait_ready()
        return again

    async def in_topic(self) -> list[str]:
        return [orjson.loads(r.value)["id"] for r in await in_topic(self.settings)]


async def _until_gone(work: Any) -> None:
    with contextlib.suppress(httpx.TransportError):
        await work


@pytest.fixture
async def ingress(tmp_path: Path) -> AsyncIterator[Ingress]:
    """Topics on a broker of its own that is down, and an ingress that is not started yet."""
    servers = Servers()
    try:
        kafka = await servers.kafka()
        environment = {
            "WAPIPE_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap, "WAPIPE_INGRESS_PORT": str(free_port()),
            "WHATSAPP_HOOK_HMAC_KEY": KEY, "WAPIPE_SPOOL_DIR": str(tmp_path / "spool"), "WAPIPE_INGRESS_DEADLINE_S": "1",
        }  # fmt: skip
        settings = load_settings(environment)
        await apply_topics(settings.kafka, all_topics(consumer_names()))
        await kafka.child.stop()
        yield Ingress(settings, environment, kafka.child, tmp_path)
    finally:
        await servers.close()


async def test_kill_9_while_it_spools_loses_nothing_that_was_answered_200(ingress: Ingress) -> None:
    async with AsyncExitStack() as stack:
        for life in range(3):
            process = await ingress.start(stack)
            before = len(ingress.acknowledged)
            posting = asyncio.create_task(ingress.post(range(life * 100_000, life * 100_000 + 50_000)))

            async def some(before: int = before) -> bool | None:
                return True if len(ingress.acknowledged) > before + 300 else None

            await until(some, "300 events to be answered")
            process.kill()
            await posting
            assert set(ingress.answers) == {(200, "")}
            assert ingress.acknowledged <= ingress.spooled()
        process = await ingress.start(stack)
        broker = await ingress.broker_up()
        try:
            await wait_ready("ingress", ingress.settings.ingress.port, process, ingress.logs)
            assert ingress.spooled() == set()
            arrived = await ingress.in_topic()
            assert ingress.acknowledged <= set(arrived)
            print(f"{len(ingress.acknowledged)} answered 200, {len(arrived)} in the topic")
        finally:
            await stack.aclose()
            await broker.stop()


@contextmanager
def small_disk(path: Path) -> Iterator[bool]:
    """A file system of half a megabyte at `path` where we may mount one; answers whether."""
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(path)]
    mounted = os.geteuid() == 0 and subprocess.run(mount, check=False, capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(path)], check=True)


async def test_a_full_disk_is_503_and_loses_nothing_that_was_answered_200(ingress: Ingress) -> None:
    with small_disk(ingress.settings.spool_folder) as mounted:
        async with AsyncExitStack() as stack:
            process = await ingress.start(stack)
            if not mounted:  # files end at so many bytes instead: the same failing write
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (200_000, 200_000))
            await ingress.post(range(400), 20_000, senders=8)
            assert set(ingress.answers) == {(200, ""), (503, "spool_full")}
            assert ingress.acknowledged <= ingress.spooled()
            async with ingress.http() as http:
                metrics = (await http.get("/metrics")).text
            refused = float(metrics.split('wapipe_spool_refused_total{reason="disk"} ')[1].split("\n")[0])
            assert refused == ingress.answers[503, "spool_full"]
            broker = await ingress.broker_up()
            try:
                await wait_ready("ingress", ingress.settings.ingress.port, process, ingress.logs)
                await ingress.post(range(1000, 1100))
                assert ingress.acknowledged <= set(await ingress.in_topic())
                assert {f"evt_{n}" for n in range(1000, 1100)} <= ingress.acknowledged
            finally:
                await stack.aclose()
                await broker.stop()


async def test_without_a_spool_an_absent_broker_is_503(ingress: Ingress) -> None:
    ingress.environment["WAPIPE_SPOOL_MAX_BYTES"] = "0"
    async with AsyncExitStack() as stack:
        await ingress.start(stack)
        await ingress.post(range(5))
        assert ingress.answers == {(503, "broker_away"): 5}
        assert not ingress.settings.spool_folder.exists()
