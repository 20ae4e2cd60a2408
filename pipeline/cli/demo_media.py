"""The demo's files: a look at what the media consumer made of them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import httpx
from rich.console import Console

from pipeline.cli.media import print_status, read_status
from pipeline.errors import TransientError, WapipeError
from pipeline.settings import Settings

_SETTLE_S = 60.0


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
    if found["states"]["pending"]:
        out.print("pending are files of the recorded deliveries, which no WAHA has any more")
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
