"""wapipe's processes as a site runs them: operating-system processes beside the test's real servers, and HTTP to them."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx

from pipeline.broker import apply_topics
from pipeline.ledger import Ledger, read_ledger
from pipeline.local.ports import free_port
from pipeline.migrate import migrate
from pipeline.registry import consumer_names
from pipeline.settings import Settings, load_settings
from schemas.topics import all_topics
from tests import warm
from tests.scraped import Scraped
from tests.warm import WarmProcess

T = TypeVar("T")
PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Site:
    """A running site. `http` talks to the gateway with the API's token; `ports` has where each process serves its health."""

    settings: Settings
    http: httpx.AsyncClient
    processes: dict[str, WarmProcess]
    logs: Path
    ports: dict[str, int] = field(default_factory=dict)

    async def scrape(self, name: str) -> Scraped:
        """What the process shows at /metrics now."""
        answer = await self.http.get(f"http://127.0.0.1:{self.ports[name]}/metrics")
        assert answer.status_code == 200
        return Scraped.of(answer.text)

    async def post(self, body: bytes, *, headers: dict[str, str] | None = None) -> httpx.Response:
        """A delivery, signed with the site's key unless headers are given."""
        if headers is None:
            key = self.settings.ingress.hmac_key
            assert key is not None
            signature = hmac.digest(key.get_secret_value().encode(), body, "sha512").hex()
            headers = {"X-Webhook-Hmac": signature, "X-Webhook-Hmac-Algorithm": "sha512"}
        return await self.http.post(
            "/webhook", content=body, headers={"Content-Type": "application/json", **headers}, timeout=30
        )

    async def get(self, path: str) -> Any:
        """A JSON answer of the API; anything but 200 fails the test."""
        answer = await self.http.get(path)
        assert answer.status_code == 200, (path, answer.text)
        return answer.json()

    async def messages(self, session: str, chat: str) -> list[dict[str, Any]]:
        """All messages of a chat, through every page."""
        found: list[dict[str, Any]] = []
        cursor = ""
        while True:
            page = await self.get(f"/api/messages/{session}/{chat}?limit=20{cursor}")
            found += page["items"]
            if page["next"] is None:
                return found
            cursor = f"&before={page['next']}"

    async def settled(self, received: int) -> Ledger:
        """The books when everything received so far is read by everybody."""

        async def read() -> Ledger | None:
            books = await read_ledger(self.settings)
            done = books.received + books.parked >= received and books.lag == 0 and books.unread == 0
            return books if done else None

        return await until(read, "the consumers to read everything")


async def until(
    probe: Callable[[], Awaitable[T | None]], what: str, patience_s: float = PATIENCE_S, *, every_s: float = 0.1
) -> T:
    """What `probe` answers once it is not None; fails the test after `patience_s`. Costly probes are asked less often."""
    end = time.monotonic() + patience_s
    while True:
        found = await probe()
        if found is not None:
            return found
        assert time.monotonic() < end, f"waited {patience_s:.0f} s for {what}"
        await asyncio.sleep(every_s)


@asynccontextmanager
async def running(environment: dict[str, str], logs: Path, *names: str) -> AsyncIterator[Site]:
    """Migrates, makes the topics, starts each of `names` as a process of its own and waits until all are ready."""
    settings = load_settings(environment)
    await migrate(settings.database)
    await apply_topics(settings.kafka, all_topics(consumer_names()))
    async with AsyncExitStack() as stack:
        processes: dict[str, WarmProcess] = {}
        ports: dict[str, int] = {}
        for name in names:
            port = settings.api.port if name in ("gateway", "all") else free_port()
            ports[name] = port
            extra = {"WAPIPE_METRICS_PORT": str(port)} if name not in ("gateway", "all") else {}
            processes[name] = await start_process(stack, name, environment | extra, logs)
        token = settings.api.token
        assert token is not None
        http = await stack.enter_async_context(
            httpx.AsyncClient(base_url=settings.origin, headers={"X-Api-Token": token.get_secret_value()}, timeout=30)
        )
        for name, port in ports.items():
            await wait_ready(name, port, processes[name], logs)
        yield Site(settings, http, processes, logs, ports)


async def start_process(stack: AsyncExitStack, name: str, environment: dict[str, str], logs: Path) -> WarmProcess:
    log = logs / f"{name}.log"
    log.write_bytes(b"")
    process = await warm.start("pipeline.cli", "run", name, env=environment, log=log)
    stack.push_async_callback(end_process, process)
    return process


async def end_process(process: WarmProcess) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), 40)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise


async def wait_ready(name: str, port: int, process: WarmProcess, logs: Path) -> None:
    async with httpx.AsyncClient() as client:

        async def probe() -> bool | None:
            log = (logs / f"{name}.log").read_text()
            assert process.returncode is None, f"{name} ended with {process.returncode}:\n{log}"
            try:
                answer = await client.get(f"http://127.0.0.1:{port}/ready")
            except httpx.TransportError:
                return None
            return True if answer.status_code == 200 else None

        await until(probe, f"{name} to be ready")


def fixture_lines(name: str) -> list[dict[str, Any]]:
    """The lines of tests/fixtures/{name}.jsonl."""
    path = Path(__file__).parent / "fixtures" / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
