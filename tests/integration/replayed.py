"""What tests of replays share: a site with live consumers, replays in this process and as processes, tables as text."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.broker import Publisher
from pipeline.postgres import Pool, open_pool
from pipeline.reader import read_bounds, read_records
from pipeline.registry import select
from pipeline.replay import run
from pipeline.replay.outcome import Outcome, Rehearsal
from pipeline.replay.run import Job
from pipeline.replay.spec import Spec, books_name
from producers.simulator import Delivery, Profile, Target, play, traffic
from schemas.topics import dead_letter_topic
from tests.site import Site, running, until
from tests.warm import WarmProcess, inherited, start, wapipe

FACTS = {
    "messages": (
        "message_content", "message_keys", "message_acks", "message_edits", "message_revokes", "reactions", "poll_votes",
        "event_responses",
    ),
    "contacts": (
        "contacts_seen", "chat_latest", "contact_names", "identities", "group_settings", "group_members",
        "group_join_requests", "labels", "chat_labels", "chat_archive", "presence", "calls",
    ),
    "sessions": ("sessions", "session_status", "session_versions"),
}  # fmt: skip


def spec(consumer: str = "messages", **more: Any) -> Spec:
    """An order of everything that the consumer reads, unless `more` says otherwise."""
    topics = tuple(run.topics_of(select([consumer])[0].make_consumer(None)))  # type: ignore[arg-type] # asks nobody
    return replace(Spec(consumer, topics), **more)


@dataclass
class Ground:
    """A running site with traffic in its topics."""

    site: Site
    environment: dict[str, str]
    pool: Pool

    async def deliver(self, deliveries: Iterable[Delivery]) -> int:
        """Through the webhook, as WAHA would; answers how many were answered 2xx, which is all of them."""
        key = self.site.settings.ingress.hmac_key
        assert key is not None
        target = Target(f"{self.site.settings.origin}/webhook", key.get_secret_value())
        report = await play(deliveries, target, concurrency=32)
        assert (report.lost, report.unfinished) == (0, 0)
        return report.delivered

    async def publish(self, topic: str, value: bytes, headers: dict[str, bytes], key: bytes = b"k") -> None:
        """A record that no ingress would write."""
        async with Publisher(self.site.settings.kafka) as publisher:
            assert await publisher.wait_ready(30)
            await publisher.publish(topic, key, value, list(headers.items()), deadline_s=30)

    def job(self, consumer: str = "messages", make: Any = None, stop: asyncio.Event | None = None) -> Job:
        return Job(self.site.settings, make or select([consumer])[0].make_consumer, stop or asyncio.Event())

    async def replay(self, order: Spec | None = None, make: Any = None) -> Outcome:
        """A replay in this process; its books balance."""
        order = order or spec()
        outcome = await run.start(self.job(order.consumer, make), order)
        if outcome.state == "done":
            assert outcome.difference == 0
            assert outcome.passed == outcome.total
            assert outcome.books["records"] == sum(outcome.books[o] for o in ("written", "merged", "skipped", "dead"))
        return outcome

    async def rehearse(self, order: Spec) -> Rehearsal:
        return await run.rehearse(self.job(order.consumer), order)

    async def tables(self, *names: str) -> dict[str, list[str]]:
        """Every row of these tables as text."""
        return {
            name: [r[0] for r in await self.pool.fetch(f"SELECT t::text FROM whatsapp_gateway.{name} t ORDER BY 1")]
            for name in names
        }

    async def versions(self, *names: str) -> dict[str, list[Any]]:
        """Which version of which row stands where: changes when a row is rewritten, even with the same values."""
        return {
            name: [
                tuple(r)
                for r in await self.pool.fetch(
                    f"SELECT tableoid::bigint, ctid::text, xmin::text FROM whatsapp_gateway.{name} ORDER BY 1, 2"
                )
            ]
            for name in names
        }

    async def truncate(self, *names: str) -> None:
        await self.pool.execute(f"TRUNCATE {', '.join(f'whatsapp_gateway.{name}' for name in names)}")

    async def progress(self, consumer: str) -> int:
        """Records in the books of this name."""
        found = await self.pool.fetchval(
            "SELECT coalesce(sum(records), 0)::bigint FROM whatsapp_gateway.progress WHERE consumer = $1", consumer
        )
        return int(found)

    async def schemas(self) -> list[str]:
        rows = await self.pool.fetch(
            "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'whatsapp_gateway%' ORDER BY 1"
        )
        return [r[0] for r in rows]

    async def tuples(self, sql: str, *arguments: Any) -> list[tuple[Any, ...]]:
        return [tuple(r) for r in await self.pool.fetch(sql, *arguments)]

    async def begun(self, records: int) -> int:
        """The number of the newest replay of messages, once it has stored so many records."""

        async def probe() -> int | None:
            order = await self.pool.fetchval("SELECT max(id) FROM whatsapp_gateway.replays WHERE state = 'running'")
            if order is None or await self.progress(books_name("messages", order)) < records:
                return None
            return int(order)

        return await until(probe, f"a replay to store {records} records")

    async def holder(self, order: int) -> int | None:
        """The server process that holds the replay's lock."""
        found = await self.pool.fetchval(
            "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = $1::int::oid", order
        )
        return None if found is None else int(found)

    async def letters(self) -> int:
        """Records in the dead-letter topic of `messages`."""
        bounds = await read_bounds(self.site.settings.kafka, dead_letter_topic("messages"))
        return sum(end for _, end in bounds.values())

    async def reasons(self, first: int) -> list[str]:
        """Why the letters from this one on died."""
        span = {0: (first, await self.letters())}
        found: list[str] = []
        async for records in read_records(self.site.settings.kafka, dead_letter_topic("messages"), span):
            found += [dict(r.headers)["dead-reason"].decode() for r in records]
        return found

    async def command(self, *arguments: str) -> tuple[int, str, str]:
        """`wapipe replay …` to its end: exit code, stdout, stderr."""
        return await wapipe("replay", *arguments, env=self.environment)

    async def start_command(self, *arguments: str) -> WarmProcess:
        return await start("pipeline.cli", "replay", *arguments, env=self.environment)

    async def script(self, text: str, *arguments: str) -> asyncio.subprocess.Process:
        """Python with this site's environment."""
        return await asyncio.create_subprocess_exec(
            sys.executable, "-c", text, *arguments, env=inherited() | self.environment,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip


@asynccontextmanager
async def ground(environment: dict[str, str], logs: Path, deliveries: int) -> AsyncIterator[Ground]:
    """Gateway and live consumers as processes, and so many deliveries of all kinds, stored by all of them."""
    async with running(environment, logs, "gateway", "messages", "contacts", "sessions") as site:
        pool = await open_pool(site.settings.database, name="tests")
        try:
            made = Ground(site, environment, pool)
            sent = await made.deliver(
                traffic(Profile(count=deliveries, sessions=3, chats=8, duplicates=0.1, out_of_order=0.1, seed=5))
            )
            books = await site.settled(sent)
            assert books.difference == 0
            yield made
        finally:
            await pool.close()


def result_of(stdout: str) -> dict[str, Any]:
    """The JSON that a command printed."""
    found: dict[str, Any] = json.loads(stdout)
    return found
