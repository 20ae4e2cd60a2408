"""Around every request of the API: counts it by route template and status, times it, and adds safe headers.

Route templates are a closed set (`/api/messages/{session}/{chat}`), so no phone number becomes a label.
"""

from __future__ import annotations

import time

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.metrics import API_REQUESTS, API_SECONDS

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",  # messages are private; an answer that may be kept says so itself
}


class Watch:
    """ASGI middleware. An error that escapes is counted as the 500 that the outer layer makes of it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See class."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status, started = 500, time.perf_counter()

        async def send_watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self.app(scope, receive, send_watched)
        finally:
            route = _template(scope)
            API_REQUESTS.labels(route, str(status)).inc()
            API_SECONDS.labels(route).observe(time.perf_counter() - started)


def _template(scope: Scope) -> str:
    return getattr(scope.get("route"), "path", None) or "unmatched"
