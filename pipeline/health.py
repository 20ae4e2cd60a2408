"""/health, /ready and /metrics of a process: alive means it makes progress or waits on purpose."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Check = Callable[[], str | None]  # None when well, else the reason as a slug


def health_routes(process: str, *, alive: Check, ready: Check) -> list[Route]:
    """Routes for any process. A reason makes the answer 503."""

    async def health(_: Request) -> Response:
        return _answer(process, "ok", alive())

    async def readiness(_: Request) -> Response:
        return _answer(process, "ready", ready())

    return [Route("/health", health), Route("/ready", readiness), Route("/metrics", metrics_endpoint)]


async def metrics_endpoint(_: Request) -> Response:
    """Prometheus' text format."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


def _answer(process: str, well: str, reason: str | None) -> Response:
    if reason is None:
        return JSONResponse({"status": well, "process": process})
    return JSONResponse({"status": "unavailable", "process": process, "reason": reason}, 503)
