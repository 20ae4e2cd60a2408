"""The files of the simulated WAHA: GET /api/files/{session}/{id}.{ext}, as its static server serves them.

A file lives for `lifetime_s` from its download on. WAHA downloads it for the webhook, and again when a message is asked for by
id with downloadMedia=true. Of messages that this server did not make itself (traffic of another process) the first request
counts as the download.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from email.utils import formatdate

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse

from producers.simulator.facts import MEDIA_TYPES, Message
from producers.simulator.files import KIND_BY_EXTENSION, file_of
from producers.simulator.rest.faults import Faults, Rule
from producers.simulator.rest.world import SimulatedWaha
from schemas.ids import raw_message_id

LIFETIME_S = 180.0  # WHATSAPP_FILES_LIFETIME
_PART = 64 * 1024


@dataclass(slots=True)
class Files:
    """When each file was downloaded, by session and raw id. `lifetime_s` 0 keeps files; `clock` in seconds."""

    waha: SimulatedWaha
    lifetime_s: float = LIFETIME_S
    clock: Callable[[], float] = time.time
    downloads: int = 0  # by REST: what downloadMedia=true costs
    _born: dict[tuple[str, str], float] = field(default_factory=dict)

    def download(self, message: Message) -> None:
        """WAHA fetched the file of this message from WhatsApp, now."""
        self.downloads += 1
        self._born[message.account.session, message.raw_id] = self.clock()

    def emitted(self, message: Message) -> None:
        """WAHA told of this message by webhook, now."""
        self._born[message.account.session, message.raw_id] = self.clock()

    def expire(self) -> None:
        """Every file that was there is gone."""
        self._born = dict.fromkeys(self._born, float("-inf"))

    def there(self, session: str, raw_id: str) -> bool:
        """Whether the file can be had now."""
        known = self.waha.sessions.get(session)
        if (session, raw_id) not in self._born:
            if known is not None and raw_id in known.by_raw_id:
                return False
            self._born[session, raw_id] = self.clock()
        born = self._born[session, raw_id]
        return born > float("-inf") and (not self.lifetime_s or self.clock() - born < self.lifetime_s)

    def born_at(self, session: str, raw_id: str) -> float:
        """When it was downloaded."""
        return self._born[session, raw_id]


async def serve_file(request: Request, files: Files, faults: Faults) -> Response:
    """The route."""
    session, name = request.path_params["session"], request.path_params["name"]
    stem, _, extension = name.rpartition(".")
    raw_id, kind = raw_message_id(stem), KIND_BY_EXTENSION.get(extension)
    rule = faults.take(request.url.path, of_files=True)
    if kind is None or (rule and rule.kind == "gone") or not files.there(session, raw_id):
        words = f"ENOENT: no such file or directory, stat '/tmp/whatsapp-files/{session}/{name}'"
        return JSONResponse({"message": words, "error": "Not Found", "statusCode": 404}, 404)
    if rule and rule.kind == "redirect":
        return RedirectResponse(rule.location, 302)
    data = file_of(raw_id, kind)
    headers = {
        "content-type": MEDIA_TYPES[kind][0],
        "etag": f'W/"{len(data):x}-{hashlib.sha256(data).hexdigest()[:11]}"',
        "last-modified": formatdate(files.born_at(session, raw_id), usegmt=True),
        "accept-ranges": "bytes",
        "cache-control": "public, max-age=0",
    }
    if rule:
        return _faulty(rule, data, headers)
    if request.headers.get("if-none-match") == headers["etag"]:
        return Response(status_code=304, headers=headers)
    return _ranged(request.headers.get("range"), data, headers)


def _ranged(wanted: str | None, data: bytes, headers: dict[str, str]) -> Response:
    """The whole, or one range of it; several ranges are answered with the whole, as HTTP allows."""
    if not wanted or not wanted.startswith("bytes=") or "," in wanted:
        return Response(data, headers=headers)
    first_text, _, last_text = wanted[6:].partition("-")
    try:
        first = int(first_text) if first_text else max(0, len(data) - int(last_text))
        last = min(int(last_text), len(data) - 1) if first_text and last_text else len(data) - 1
    except ValueError:
        return Response(data, headers=headers)
    if first > last:
        return Response(status_code=416, headers={"content-range": f"bytes */{len(data)}"})
    headers = headers | {"content-range": f"bytes {first}-{last}/{len(data)}"}
    return Response(data[first : last + 1], 206, headers)


def _faulty(rule: Rule, data: bytes, headers: dict[str, str]) -> Response:
    half = len(data) // 2
    match rule.kind:
        case "truncated":
            return CutResponse(data[:half], len(data), headers)
        case "short":
            return Response(data[:half], headers=headers)
        case "wrong_bytes":
            return Response(data[:half] + bytes(255 - b for b in data[half:]), headers=headers)
        case "empty":
            return Response(b"", headers=headers)
        case "huge":
            return StreamingResponse(_endless(data, rule.size_bytes), headers=headers)
        case _:
            return StreamingResponse(_slowly(data, rule.delay_s), headers=headers | {"content-length": str(len(data))})


class CutResponse(Response):
    """Promises `length` bytes, sends fewer, and ends the connection."""

    def __init__(self, part: bytes, length: int, headers: dict[str, str] | None = None) -> None:
        super().__init__(part, headers={**(headers or {}), "content-length": str(length)})

    async def __call__(self, scope: object, receive: object, send: object) -> None:
        """The server closes the connection of an answer that never ends; it says so in its log."""
        assert callable(send)
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})


async def _endless(data: bytes, size: int) -> AsyncIterator[bytes]:
    sent, part = 0, (data * (_PART // len(data) + 1))[:_PART]
    while sent < size:
        yield part[: size - sent]
        sent += len(part)


async def _slowly(data: bytes, delay_s: float) -> AsyncIterator[bytes]:
    for at in range(0, len(data), _PART // 16):
        await asyncio.sleep(delay_s)
        yield data[at : at + _PART // 16]
