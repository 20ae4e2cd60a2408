"""The ingress as tests of it see it: a publisher that remembers, and requests signed as WAHA signs them."""

from __future__ import annotations

import asyncio
import hmac
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import httpx
import orjson
from prometheus_client import REGISTRY
from starlette.types import ASGIApp, Message

from pipeline.broker import Headers, Publisher
from pipeline.settings import load_settings
from producers.ingress import make_app

KEY = "a-key-of-our-own"
TOKEN = "a-token-of-our-own"
BERLIN = "berlins-own-key"
ANA = "5511988887777@c.us"
SOURCES = {
    "WAPIPE_SOURCE_HMAC_KEYS": f'{{"berlin": "{BERLIN}", "lima": "limas-own-key"}}', "WHATSAPP_WEBHOOK_TOKEN": TOKEN,
}  # fmt: skip
EVENT: dict[str, Any] = {
    "id": "evt_1", "event": "message", "session": "default", "engine": "NOWEB",
    "payload": {"id": f"false_{ANA}_A1", "from": ANA, "body": "hush-body"},
}  # fmt: skip
BODY = orjson.dumps(EVENT)


class Record(NamedTuple):
    """What was published."""

    topic: str
    key: bytes
    value: bytes
    headers: Headers
    deadline_s: float


@dataclass
class Remembering:
    """A publisher that remembers; `error` is raised instead, `gate` holds every record back until it is set."""

    error: Exception | None = None
    gate: asyncio.Event | None = None
    ready: bool = True
    records: list[Record] = field(default_factory=list)
    arrivals: asyncio.Queue[None] = field(default_factory=asyncio.Queue)

    async def publish(self, topic: str, key: bytes, value: bytes, headers: Headers, *, deadline_s: float) -> None:
        if self.gate is not None:
            self.arrivals.put_nowait(None)
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.records.append(Record(topic, key, value, headers, deadline_s))


def app(publisher: Remembering, **env: str) -> ASGIApp:
    """The ingress with an HMAC key, unless `env` says otherwise."""
    settings = load_settings({"WHATSAPP_HOOK_HMAC_KEY": KEY} | env)
    return make_app(settings, cast(Publisher, publisher))


def signature(body: bytes, key: str = KEY) -> str:
    return hmac.digest(key.encode(), body, "sha512").hex()


def signed(body: bytes, key: str = KEY, **more: str) -> dict[str, str]:
    """WAHA's headers of a delivery."""
    headers = {"Content-Type": "application/json", "X-Webhook-Hmac-Algorithm": "sha512"}
    return headers | {"X-Webhook-Hmac": signature(body, key)} | more


async def post(
    to: ASGIApp, body: Any = BODY, headers: dict[str, str] | None = None, path: str = "/webhook", method: str = "POST"
) -> httpx.Response:
    """One request; signed when no headers are given."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(to), base_url="http://ingress") as client:
        return await client.request(method, path, content=body, headers=signed(body) if headers is None else headers)


async def deliver(to: ASGIApp, *messages: Message, headers: dict[str, str]) -> tuple[int, bytes]:
    """One request as exactly these ASGI messages: what a server may do and httpx does not."""
    left, sent = list(messages), list[Message]()

    async def receive() -> Message:
        return left.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    raw = [(n.lower().encode(), v.encode()) for n, v in headers.items()]
    await to({"type": "http", "method": "POST", "path": "/webhook", "headers": raw}, receive, send)
    return sent[0]["status"], sent[1]["body"]


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0
