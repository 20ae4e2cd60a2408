"""Files a second into S3, against a bare loop that GETs and PUTs the same files: same concurrency, libraries and run."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sys
import time
from collections.abc import AsyncIterator

import aiohttp

from pipeline.local.ports import free_port
from pipeline.migrate import migrate
from pipeline.s3 import open_bucket
from pipeline.settings import Settings, load_settings
from tests.bench.common import Site, Table
from tests.integration.files import Desk, downloading, make_bucket, media_message, open_desk

SIZE_BYTES = 50_000
CONCURRENCY = 16
_BARE = "bare loop: GET, PUT"


async def run(site: Site, *, rounds: int, files: int) -> Table:
    """The table. Every round has files that nobody has stored yet."""
    table = Table(f"Media, files of {SIZE_BYTES // 1000} kB, {CONCURRENCY} at a time, one process", "files/s", _BARE)
    port = free_port()
    environment = await _environment(site, port)
    async with _serving(port), open_desk(environment) as desk:
        for _ in range(rounds):
            mark = secrets.token_hex(4)
            table.add(_BARE, files / await _bare(desk.settings, [_url(port, f"{mark}b{n}") for n in range(files)]))
            table.add("wapipe media", files / await _wapipe(desk, [f"{mark}w{n}" for n in range(files)], port))
        counts = await desk.states()
        if set(counts) != {"stored"}:
            raise RuntimeError(f"not all files are stored: {counts}")
    table.notes.append("The server of files, S3, PostgreSQL and the measured process share the cores.")
    return table


async def _environment(site: Site, port: int) -> dict[str, str]:
    s3 = await site.servers.s3()
    bucket = f"bench-{secrets.token_hex(4)}"
    await make_bucket(s3, bucket)
    environment = {
        "WHATSAPP_DB_HOST": site.database.host, "WHATSAPP_DB_PORT": str(site.database.port),
        "WHATSAPP_DB_USER": site.database.user, "WHATSAPP_DB_PASSWORD": site.database.password,
        "WHATSAPP_DB_NAME": await site.database.create_database(), "WAPIPE_S3_ENDPOINT_URL": s3.url,
        "WHATSAPP_MINIO_ROOT_USER": s3.access_key, "WHATSAPP_MINIO_ROOT_PASSWORD": s3.secret,
        "WHATSAPP_MINIO_BUCKET": bucket, "WAPIPE_WAHA_URL": f"http://127.0.0.1:{port}",
        "WAPIPE_MEDIA_MAX_IN_FLIGHT": str(CONCURRENCY), "WAPIPE_MEDIA_SERVER_MAX_IN_FLIGHT": str(CONCURRENCY),
        "WAPIPE_MEDIA_THUMBNAILS": "false",
    }  # fmt: skip
    await migrate(load_settings(environment).database)
    return environment


def _url(port: int, name: str) -> str:
    return f"http://127.0.0.1:{port}/api/files/default/{name}.jpeg"


async def _bare(settings: Settings, urls: list[str]) -> float:
    """Seconds for all of them."""
    waiting = iter(urls)
    connector = aiohttp.TCPConnector(limit=CONCURRENCY)
    async with (
        aiohttp.ClientSession(connector=connector) as http,
        open_bucket(settings.s3, connections=CONCURRENCY) as bucket,
    ):

        async def work() -> None:
            for url in waiting:
                async with http.get(url) as answer:
                    data = await answer.read()
                await bucket.put(f"bare/{url.rpartition('/')[2]}", data, "image/jpeg")

        started = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(CONCURRENCY)))
        return time.perf_counter() - started


async def _wapipe(desk: Desk, names: list[str], port: int) -> float:
    """Seconds from the moment that the downloads begin."""
    for start in range(0, len(names), 500):
        await desk.told(*(media_message(name, _url(port, name)) for name in names[start : start + 500]))
    before = (await desk.states())["stored"]
    async with downloading(desk):
        started = time.perf_counter()
        while (await desk.states())["stored"] < before + len(names):  # noqa: ASYNC110 - another process' rows
            await asyncio.sleep(0.05)
        return time.perf_counter() - started


@contextlib.asynccontextmanager
async def _serving(port: int) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.files", str(port), str(SIZE_BYTES)
    )
    try:
        async with aiohttp.ClientSession() as http:
            for _ in range(300):
                with contextlib.suppress(aiohttp.ClientError):
                    async with http.get(_url(port, "warm")):
                        break
                await asyncio.sleep(0.1)
        yield
    finally:
        process.terminate()
        await process.wait()
