"""Webhook and query API together on one port: what users of the replaced stack know, and what a small site runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.api import make_app as make_api
from pipeline.lifecycle import background, serve_http, stop_event
from pipeline.postgres import close_pool, open_pool
from pipeline.settings import Settings, require_secret
from producers.beat import keep_beat
from producers.ingress import Verifier, Webhook, broker_state, open_publisher
from producers.spool import Sink


class _Ready:
    """Ready when events go straight to the broker and the API's database answers."""

    def __init__(self, publisher: Sink, api: ASGIApp) -> None:
        self._publisher, self._api = publisher, api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        reason = broker_state(self._publisher)
        answer: Callable[[Scope, Receive, Send], Awaitable[None]] = self._api
        if reason is not None:
            answer = JSONResponse({"status": "unavailable", "process": "gateway", "reason": reason}, 503)
        await answer(scope, receive, send)


def make_app(settings: Settings, publisher: Sink, api: ASGIApp) -> Webhook:
    """The webhook in front, because it is the hot path; everything else is the API's."""
    rest = Starlette(routes=[Route("/ready", _Ready(publisher, api)), Mount("/", api)])
    return Webhook(settings.ingress, publisher, rest)


async def main(settings: Settings) -> None:
    """Process `gateway`: serves until SIGTERM."""
    Verifier(settings.ingress)  # missing secrets are said before anything starts
    require_secret(settings.database.password, "WHATSAPP_DB_PASSWORD", "the database is reached with it")
    pool = await open_pool(settings.database, name="gateway", max_size=settings.api.pool_size)
    api = make_api(settings, pool)
    try:
        async with open_publisher(settings) as publisher, background(keep_beat(pool)):
            await serve_http(
                make_app(settings, publisher, api),
                host=settings.ingress.host, port=settings.api.port, stop=stop_event(), name="gateway",
            )  # fmt: skip
    finally:
        await api.state.media.close()
        await close_pool(pool)
