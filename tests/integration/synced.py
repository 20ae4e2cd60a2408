"""A site with the sync consumer, and a simulated WAHA whose history it must arrive at."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.broker import Publisher
from pipeline.postgres import Pool, open_pool
from pipeline.sync.requests import publish_requests
from producers.simulator.rest import RestServer
from schemas.sync import SyncRequest, make_request
from tests.simulated_waha import served
from tests.site import Site, running, start_process, until, wait_ready


@dataclass(slots=True)
class Synced:
    """A running site beside its WAHA."""

    site: Site
    server: RestServer
    pool: Pool
    publisher: Publisher
    environment: dict[str, str]
    logs: Path
    stack: AsyncExitStack

    async def ask(self, *requests: SyncRequest) -> None:
        """Puts the requests on wapipe.sync."""
        await self.publisher.wait_ready(30)
        await publish_requests(self.publisher, requests)

    async def ask_all(self) -> None:
        """The whole history of every session."""
        await self.ask(*(whole(name, self.server) for name in self.server.waha.sessions))

    async def states(self) -> list[dict[str, Any]]:
        """All rows of sync_state."""
        rows = await self.pool.fetch("SELECT * FROM whatsapp_gateway.sync_state ORDER BY id")
        return [dict(row) for row in rows]

    async def ended(self, requests: int, patience_s: float = 90.0) -> list[dict[str, Any]]:
        """The rows when so many requests, or more, are there and none is open."""

        async def probe() -> list[dict[str, Any]] | None:
            rows = await self.states()
            is_open = [r for r in rows if r["status"] in ("pending", "running", "waiting")]
            return rows if len(rows) >= requests and not is_open else None

        return await until(probe, "the requests to end", patience_s)

    async def has_pages(self, pages: int) -> None:
        """Waits until the first request has fetched so many."""

        async def probe() -> bool | None:
            rows = await self.states()
            return True if rows and rows[0]["pages"] >= pages else None

        await until(probe, f"{pages} pages")

    async def stored(self) -> Counter[str]:
        """How often each message is in the database, by qualified session and serialized id, when all of it is read."""
        await self.site.settled(0)
        rows = await self.pool.fetch("SELECT session, message_id FROM whatsapp_gateway.messages")
        return Counter(f"{r['session']} {r['message_id']}" for r in rows)

    def truth(self) -> Counter[str]:
        """What must be there."""
        sessions = self.server.waha.sessions
        return Counter(f"{name} {id_}" for name, session in sessions.items() for id_ in session.truth())

    async def kill(self, name: str) -> None:
        """kill -9."""
        self.site.processes[name].kill()
        await self.site.processes[name].wait()

    async def start(self, name: str) -> None:
        """Starts a killed process again."""
        port = self.site.ports[name]
        extra = {"WAPIPE_METRICS_PORT": str(port)}
        process = await start_process(self.stack, name, self.environment | extra, self.logs)
        self.site.processes[name] = process
        await wait_ready(name, port, process, self.logs)


def whole(session: str, server: RestServer, *, chat: str = "all") -> SyncRequest:
    """A request for everything that the session's history has."""
    past = server.waha.past
    return make_request(session, "manual", int(past.end_s - past.days * 86_400), past.end_s, chat=chat)


@asynccontextmanager
async def synced(
    environment: dict[str, str],
    server: RestServer,
    logs: Path,
    *,
    processes: Sequence[str] = ("sync", "messages"),
    **more: str,
) -> AsyncIterator[Synced]:
    """Serves `server`, and runs `processes` on it."""
    server.api_key = secrets.token_hex(16)
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(served(server))
        own = {
            "WAPIPE_WAHA_URL": url,
            "WHATSAPP_API_KEY": server.api_key,
            "WAPIPE_WAHA_RATE_PER_S": "1000",
            "WHATSAPP_SYNC_ENABLED": "false",
        }
        env = environment | own | more
        site = await stack.enter_async_context(running(env, logs, *processes))
        pool = await open_pool(site.settings.database, name="tests")
        stack.push_async_callback(pool.close)
        publisher = await stack.enter_async_context(Publisher(site.settings.kafka))
        yield Synced(site, server, pool, publisher, env, logs, stack)
