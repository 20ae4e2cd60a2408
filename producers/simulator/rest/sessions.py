"""Server and sessions of the simulated WAHA: version, status, who is paired, start, stop, restart."""

from __future__ import annotations

import asyncio
import time
from random import Random

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from producers.simulator.delivery import Delivery
from producers.simulator.envelopes import RequestIds, envelope, envelope_id, headers_of, me_of, to_json
from producers.simulator.facts import Json
from producers.simulator.payloads_events import session_status
from producers.simulator.player import Target, play
from producers.simulator.rest.answers import error, json
from producers.simulator.rest.world import SimulatedSession, SimulatedWaha
from producers.simulator.retry import Retry

_STATES = {"start": "WORKING", "restart": "WORKING", "stop": "STOPPED", "logout": "SCAN_QR_CODE"}


class Sessions:
    """The endpoints of one server."""

    def __init__(self, waha: SimulatedWaha) -> None:
        self._waha = waha
        self._rng = Random(5)  # noqa: S311 - ids of envelopes
        self._telling: set[asyncio.Task[None]] = set()

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("/ping", _ping),
            Route("/health", _health),
            Route("/api/server/version", self.version),
            Route("/api/version", self.version),
            Route("/api/server/status", _status),
            Route("/api/sessions", self.listed),
            Route("/api/sessions/{session}", self.one),
            Route("/api/sessions/{session}", self.configure, methods=["PUT"]),
            Route("/api/sessions/{session}/me", self.me),
            Route("/api/sessions/{session}/{act}", self.act, methods=["POST"]),
            Route("/simulator/sessions/{session}", self.put_state, methods=["PUT"]),
        ]

    async def version(self, _: Request) -> Response:
        """Of the server, which the first session shares."""
        account = next(iter(self._waha.sessions.values())).account
        return json({
            "version": account.version, "engine": account.engine, "tier": account.tier, "browser": None,
            "platform": account.platform, "worker": {"id": account.worker},
        })  # fmt: skip

    async def listed(self, request: Request) -> Response:
        """Stopped ones only with all=true."""
        every = request.query_params.get("all") == "true"
        return json([_info(s) for s in self._waha.sessions.values() if every or s.status != "STOPPED"])

    async def one(self, request: Request) -> Response:
        """One session."""
        session = self._named(request)
        return json(_info(session)) if session else _unknown()

    async def me(self, request: Request) -> Response:
        """Whose account it is."""
        session = self._named(request)
        return json(me_of(session.account)) if session else _unknown()

    async def act(self, request: Request) -> Response:
        """start, stop, restart, logout."""
        session, state = self._named(request), _STATES.get(request.path_params["act"])
        if session is None or state is None:
            return _unknown()
        session.status = state
        self._tell(session)
        return json(_info(session), 201)

    async def configure(self, request: Request) -> Response:
        """Settings in place of all that were there. A session that was started restarts, which its webhooks are told."""
        session = self._named(request)
        if session is None:
            return _unknown()
        session.config = dict((await request.json()).get("config") or {})
        if session.status != "STOPPED":
            self._tell(session)
        return json(_info(session))

    def _tell(self, session: SimulatedSession) -> None:
        """session.status to each webhook of the session's own settings."""
        for hook in session.config.get("webhooks") or ():
            task = asyncio.create_task(self._post(session, hook))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    async def _post(self, session: SimulatedSession, hook: Json) -> None:
        account, at_ms = session.account, time.time_ns() // 1_000_000
        payload = session_status(account, [("STARTING", at_ms - 900), (session.status, at_ms)])
        body = envelope(account, "session.status", payload, id_=envelope_id(self._rng, at_ms), at_ms=at_ms)
        headers = headers_of(account.version, RequestIds(self._rng).next(at_ms), at_ms)
        delivery = Delivery(to_json(body), headers, account.session, "session.status", None, 0.0)
        key = (hook.get("hmac") or {}).get("key")
        await play([delivery], Target(hook["url"], key), retry=Retry(attempts=0))

    async def put_state(self, request: Request) -> Response:
        """No part of WAHA: any state, and whether NOWEB's store is on."""
        session = self._named(request)
        if session is None:
            return _unknown()
        said = await request.json()
        session.status = said.get("status", session.status)
        session.store_enabled = said.get("store_enabled", session.store_enabled)
        return json(_info(session))

    def _named(self, request: Request) -> SimulatedSession | None:
        return self._waha.sessions.get(request.path_params["session"])


async def _ping(_: Request) -> Response:
    return json({"message": "pong"})


async def _health(_: Request) -> Response:
    return json({"status": "ok", "info": {}, "error": {}, "details": {}})


async def _status(_: Request) -> Response:
    return json({"startTimestamp": 0, "uptime": 0, "worker": {"id": None}})


def _info(session: SimulatedSession) -> Json:
    account = session.account
    store = {"noweb": {"store": {"enabled": session.store_enabled}}} if account.engine == "NOWEB" else {}
    return {
        "name": account.session,
        "status": session.status,
        "config": {"metadata": dict(account.metadata or {}), "webhooks": []} | session.config | store,
        "me": me_of(account),
        "engine": {"engine": account.engine},
    }


def _unknown() -> Response:
    return error(404, "Session not found")
