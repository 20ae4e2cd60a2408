"""Facts told to the consumers' writers, and the API over the same database: what tests of reading share."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import httpx
import orjson

from consumers.contacts import Contacts
from consumers.messages import Messages
from consumers.sessions import Sessions
from pipeline.api import make_app
from pipeline.batch import Place
from pipeline.facts import Placed
from pipeline.migrate import migrate
from pipeline.postgres import Pool, open_pool
from pipeline.settings import load_settings
from schemas.facts import Fact, IdentityFact
from schemas.normalize.contact import met_in
from schemas.normalize.events import to_facts
from schemas.normalize.head import Record
from tests.integration.written import AT_MS, ME

AT_S = AT_MS // 1000
_numbers = itertools.count()


@dataclass
class Telling:
    """A database, and a client of the API over it."""

    pool: Pool
    http: httpx.AsyncClient

    async def tell(self, *facts: Fact) -> None:
        """Stores facts, and whom they name, through every consumer that has a table for them."""
        placed = [Placed([*facts, *met_in(facts)], Place("waha.message", 0, next(_numbers)))]
        for consumer in (Messages(self.pool), Contacts(self.pool), Sessions(self.pool)):
            rows = await consumer.prepare(placed)
            async with self.pool.acquire() as connection, connection.transaction():
                await consumer.stage(cast(Any, connection), rows)
                await consumer.write(cast(Any, connection), rows)

    async def get(self, path: str, **query: Any) -> Any:
        answer = await self.http.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def pages(self, path: str, limit: int, **query: Any) -> list[dict[str, Any]]:
        """The items of all pages."""
        found, more = list[dict[str, Any]](), dict[str, Any]()
        while True:
            page = await self.get(path, limit=limit, **query, **more)
            found += page["items"]
            if page["next"] is None:
                return found
            more = {"before": page["next"]}


@asynccontextmanager
async def telling(env: dict[str, str]) -> AsyncIterator[Telling]:
    """With a fresh database."""
    settings = load_settings(env)
    await migrate(settings.database)
    pool = await open_pool(settings.database, name="test", max_size=4)
    assert settings.api.token
    headers = {"X-Api-Token": settings.api.token.get_secret_value()}
    transport = httpx.ASGITransport(make_app(settings, pool))
    async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=headers) as http:
        yield Telling(pool, http)
    await pool.close()


def facts_of(event: str, payload: dict[str, Any], at_s: int, session: str = "default") -> list[Fact]:
    """What the normaliser makes of a NOWEB body of the account ME."""
    body = {
        "id": f"evt_{next(_numbers):05}", "event": event, "session": session, "engine": "NOWEB", "timestamp": at_s * 1000,
        "me": {"id": ME}, "payload": payload,
    }  # fmt: skip
    return to_facts(orjson.dumps(body), Record(event, "default", at_s * 1000, 0))


def wrote(
    chat: str, raw_id: str, text: str, at_s: int = AT_S, *, sender: str | None = None, own: bool = False,
    session: str = "default",
) -> Iterable[Fact]:  # fmt: skip
    """A message of a chat."""
    suffix = f"_{sender}" if sender else ""
    payload: dict[str, Any] = {
        "id": f"{'true' if own else 'false'}_{chat}_{raw_id}{suffix}", "timestamp": at_s, "from": chat, "fromMe": own,
        "body": text,
    }  # fmt: skip
    if sender:
        payload["participant"] = sender
    return facts_of("message.any", payload, at_s, session)


def same(lid: str, phone: str, at_s: int, *, holds: bool = True, session: str = "default") -> Fact:
    """A hidden id and a number are one person, or no longer."""
    return IdentityFact(session, lid, phone, holds, "operator", at_s * 1000)
