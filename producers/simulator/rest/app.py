"""The simulated WAHA's HTTP server: the endpoints that wapipe reads, over a SimulatedWaha, with faults on demand.

`/simulator/…` is no part of WAHA: faults, states of sessions, counts of requests, for tests of other processes.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from random import Random

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from producers.simulator.delivery import Delivery
from producers.simulator.rest import stored
from producers.simulator.rest.answers import json
from producers.simulator.rest.faults import Faults, Rule, rule_from
from producers.simulator.rest.media import CutResponse, Files, serve_file
from producers.simulator.rest.sessions import Sessions
from producers.simulator.rest.world import SimulatedWaha

OPEN_PATHS = ("/ping",)


@dataclass(slots=True)
class RestServer:
    """The state behind the app. `api_key` None lets everybody in, as WAHA does without WAHA_API_KEY before 2025.9."""

    waha: SimulatedWaha
    api_key: str | None = None
    faults: Faults = field(default_factory=Faults)
    files: Files = field(init=False)
    requests: Counter[str] = field(default_factory=Counter)  # by route template
    rng: Random = field(default_factory=lambda: Random(4))  # noqa: S311 - order of messages within a second
    page_s: float = (
        0.0  # a page of messages takes so long, and each row that is read for it so much longer: WAHA asks its
    )
    row_s: float = 0.0  # engine's store, and makes a message of each row

    def __post_init__(self) -> None:
        self.files = Files(self.waha)

    def app(self) -> ASGIApp:
        """The ASGI application."""
        routes = [*Sessions(self.waha).routes(), *stored.routes(self), *self._own_routes()]
        inner = Starlette(routes=[_counted(r, self.requests) for r in routes])
        return _Front(self, inner)

    def tell(self, lost: float = 0.0) -> Iterator[Delivery]:
        """The history by webhook, but for a share; the files of what is told live from then on."""
        for message, delivery in self.waha.webhooks(lost=lost):
            if message.content.has_media:
                self.files.emitted(message)
            yield delivery

    def _own_routes(self) -> list[Route]:
        async def file(request: Request) -> Response:
            return await serve_file(request, self.files, self.faults)

        async def add_fault(request: Request) -> Response:
            try:
                self.faults.rules.append(rule_from(orjson.loads(await request.body())))
            except ValueError as exc:
                return json({"message": str(exc), "statusCode": 400}, 400)
            return json({"rules": len(self.faults.rules)})

        async def clear_faults(_: Request) -> Response:
            self.faults.clear()
            return json({"rules": 0})

        async def expire(request: Request) -> Response:
            if lifetime := request.query_params.get("lifetime_s"):
                self.files.lifetime_s = float(lifetime)
            else:
                self.files.expire()
            return json({"lifetime_s": self.files.lifetime_s})

        async def counts(_: Request) -> Response:
            return json({"requests": dict(self.requests), "downloads": self.files.downloads})

        return [
            Route("/api/files/{session}/{name}", file),
            Route("/simulator/faults", add_fault, methods=["POST"]),
            Route("/simulator/faults", clear_faults, methods=["DELETE"]),
            Route("/simulator/files/expire", expire, methods=["POST"]),
            Route("/simulator/requests", counts),
        ]


class _Front:
    """API key and faults, before any endpoint."""

    def __init__(self, server: RestServer, inner: ASGIApp) -> None:
        self._server, self._inner = server, inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        request = Request(scope)
        answer: ASGIApp = self._inner
        if not self._may(request):
            answer = json({"message": "Unauthorized", "statusCode": 401}, 401)
        elif not request.url.path.startswith("/simulator/"):
            rule = self._server.faults.take(request.url.path, of_files=False)
            if rule is not None and (faulty := await _answer(rule)) is not None:
                answer = faulty
        await answer(scope, receive, send)

    def _may(self, request: Request) -> bool:
        key = self._server.api_key
        given = request.headers.get("x-api-key") or request.query_params.get("x-api-key")
        return key is None or given == key or request.url.path in OPEN_PATHS


async def _answer(rule: Rule) -> Response | None:
    """What the fault answers; None when it only held the request up."""
    match rule.kind:
        case "delay":
            await asyncio.sleep(rule.delay_s)
            return None
        case "drop":
            return CutResponse(b"[", 1_000_000, {"content-type": "application/json"})
        case "not_json":
            return PlainTextResponse("[{", media_type="application/json")
    headers = {"retry-after": rule.retry_after} if rule.retry_after else {}
    if rule.html:
        return HTMLResponse(f"<html><h1>{rule.status}</h1></html>", rule.status, headers)
    return json({"message": rule.message, "statusCode": rule.status}, rule.status, headers)


def _counted(route: Route, requests: Counter[str]) -> Route:
    endpoint: Callable[[Request], Awaitable[Response]] = route.endpoint

    async def count(request: Request) -> Response:
        requests[route.path] += 1
        return await endpoint(request)

    return Route(route.path, count, methods=list(route.methods or ["GET"]))
