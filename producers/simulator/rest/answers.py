"""Answers as WAHA's server writes them, its errors among them."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.responses import Response

_STORE_WORDS = (
    'Enable NOWEB store "config.noweb.store.enabled=True" and "config.noweb.store.full_sync=True" '
    "when starting a new session. Read more: https://waha.devlike.pro/docs/engines/noweb/#store"
)


def json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """JSON as Nest writes it."""
    return Response(orjson.dumps(value), status, headers, media_type="application/json; charset=utf-8")


def error(status: int, message: str) -> Response:
    """A refusal."""
    names = {400: "Bad Request", 404: "Not Found", 422: "Unprocessable Entity", 500: "Internal Server Error"}
    return json({"message": message, "error": names.get(status, "Error"), "statusCode": status}, status)


def not_working(session: str, status: str) -> Response:
    """422 of a session that does not work (WAHA waits up to 15 s before it says so)."""
    words = "Session status is not as expected. Try again later or restart the session"
    return json({"error": words, "session": session, "status": status, "expected": ["WORKING"]}, 422)


def no_store() -> Response:
    """400 of NOWEB without its store."""
    return error(400, _STORE_WORDS)
