"""Server and sessions of the simulated WAHA: version, status, who is paired, start, stop, restart."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from producers.simulator.envelopes import me_of
from producers.simulator.facts import Json
from producers.simulator.rest.answers import error, json
from producers.simulator.rest.world import SimulatedSession, SimulatedWaha

_STATES = {"start": "WORKING", "restart": "WORKING", "stop": "STOPPED", "logout": "SCAN_QR_CODE"}


class Sessions:
    """The endpoints of one server."""

    def __init__(self, waha: SimulatedWaha) -> None:
        self._waha = waha

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
        return json(_info(session), 201)

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
        "config": {"metadata": dict(account.metadata or {}), "webhooks": []} | store,
        "me": me_of(account),
        "engine": {"engine": account.engine},
    }


def _unknown() -> Response:
    return error(404, "Session not found")
