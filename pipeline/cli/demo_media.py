"""The demo's files: a simulated WAHA that serves them, and a look at what the media consumer made of them."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from rich.console import Console

from pipeline.cli.media import print_status, read_status
from pipeline.errors import TransientError, WapipeError
from pipeline.lifecycle import serve_http
from pipeline.local.ports import free_port, require_free
from pipeline.settings import Settings

_SETTLE_S = 60.0


async def file_server_port(settings: Settings) -> int:
    """Where the simulated WAHA will serve. Raises ConfigError when somebody else has the port."""
    port = settings.local.simulator_port or free_port()
    await require_free(port, "the simulated WAHA", "WAPIPE_LOCAL_SIMULATOR_PORT")
    return port


@asynccontextmanager
async def serving_files(port: int, api_key: str) -> AsyncIterator[None]:
    """A WAHA that has a file for every message of the simulated traffic, and no history."""
    rest: Any = importlib.import_module("producers.simulator.rest")
    server = rest.RestServer(rest.SimulatedWaha(rest.Past(sessions=1, chats=1, messages=0)), api_key)
    stop = asyncio.Event()
    task = asyncio.create_task(serve_http(server.app(), host="127.0.0.1", port=port, stop=stop, name="simulated WAHA"))
    try:
        yield
    finally:
        stop.set()
        await task


async def settled_files(settings: Settings) -> dict[str, Any]:
    """The books of files once nothing is left to do at once; as they are after a minute otherwise."""
    end = time.monotonic() + _SETTLE_S
    while True:
        with contextlib.suppress(TransientError):
            found = await read_status(settings)
            if not (found["due"] or found["objects"]["thumbnails_wanted"]) or time.monotonic() > end:
                return found
        await asyncio.sleep(0.3)


async def show_files(settings: Settings, found: dict[str, Any], client: httpx.AsyncClient, out: Console) -> None:
    """The books of files, and one picture as the API gives it."""
    out.print("\nfiles of messages:", style="bold")
    print_status(found, out)
    stored = (await _json(client, "/api/media?state=stored&limit=500"))["items"]
    picture = next((item for item in stored if item["type"] == "image"), None)
    if picture is None:
        return
    answer = await client.get(picture["link"])
    async with httpx.AsyncClient(timeout=10) as store:  # which gets no token of ours
        file = await store.get(answer.headers["location"]) if answer.is_redirect else answer
    if file.status_code != httpx.codes.OK or len(file.content) != picture["bytes"]:
        raise WapipeError(f"a picture was answered {file.status_code} with {len(file.content):,} bytes")
    kind = file.headers["content-type"]
    out.print(f"a picture, read back through the API ({kind}, {len(file.content):,} bytes):")
    token = settings.api.token.get_secret_value() if settings.api.token else ""
    out.print(
        f"  curl -L -H 'X-Api-Token: {token}' -o picture.jpg '{settings.origin}{picture['link']}'", soft_wrap=True
    )


async def _json(client: httpx.AsyncClient, path: str) -> Any:
    answer = await client.get(path)
    if answer.status_code != httpx.codes.OK:
        raise WapipeError(f"GET {path} answered {answer.status_code}: {answer.text[:200]}")
    return answer.json()
