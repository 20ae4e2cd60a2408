"""A real S3 store behind a front that refuses requests as Amazon's does: 503 SlowDown, or 200 with the error in its body."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipeline.lifecycle import serve_http
from pipeline.local.ports import free_port
from tests.integration.files import listening

_SLOW_DOWN = (
    b'<?xml version="1.0" encoding="UTF-8"?>'
    b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)
_OF_THE_CONNECTION = frozenset({"connection", "transfer-encoding"})


class BusyStore:
    """Passes requests on, as they were signed, unless `refuses` says otherwise."""

    def __init__(self, upstream: str, http: httpx.AsyncClient) -> None:
        self.port = free_port()
        self.refuses: Callable[[Request], bool] = lambda _: False
        self.refused: Counter[str] = Counter()
        self._upstream, self._http = upstream, http

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, request: Request) -> Response:
        body = await request.body()
        if self.refuses(request):
            return self._refused(request)
        target = f"{self._upstream}{request.scope['raw_path'].decode()}?{request.url.query}"
        headers = [(k, v) for k, v in request.headers.items() if k not in _OF_THE_CONNECTION]
        try:
            answer = await self._http.request(request.method, target.rstrip("?"), content=body, headers=headers)
        except httpx.TransportError:
            return Response(status_code=502)
        kept = {k: v for k, v in answer.headers.items() if k not in _OF_THE_CONNECTION}
        return Response(answer.content, answer.status_code, kept)

    def _refused(self, request: Request) -> Response:
        """A copy and the end of an upload in parts fail after their 200 was sent: the body says so."""
        completes = request.method == "POST" and "uploadId" in request.query_params
        copies = "x-amz-copy-source" in request.headers
        self.refused["in the body" if completes or copies else "503"] += 1
        return Response(_SLOW_DOWN, 200 if completes or copies else 503, media_type="application/xml")


@asynccontextmanager
async def busy_store(upstream: str) -> AsyncIterator[BusyStore]:
    """A front of the store at `upstream`."""
    stop = asyncio.Event()
    async with httpx.AsyncClient(timeout=60) as http:
        store = BusyStore(upstream, http)
        app = Starlette(routes=[Route("/{path:path}", store.serve, methods=["GET", "PUT", "POST", "DELETE", "HEAD"])])
        task = asyncio.create_task(serve_http(app, host="127.0.0.1", port=store.port, stop=stop, name="busy store"))
        await listening(store.port)
        try:
            yield store
        finally:
            stop.set()
            await task
