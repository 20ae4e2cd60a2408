"""What tests of media share: files behind HTTP as the test says, messages that name them, and the downloads of a process.

The simulated WAHA serves files that it makes itself; here a test chooses the bytes, counts the requests and holds them.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from consumers.media import Media
from pipeline.broker import Publisher
from pipeline.lifecycle import serve_http
from pipeline.local.ports import free_port
from pipeline.local.s3 import Bucket as LocalBucket
from pipeline.local.s3 import s3_client
from pipeline.media.run import Downloads, downloads
from pipeline.media.sources import AskAgain, Place
from pipeline.pause import Pauses
from pipeline.postgres import Pool, open_pool
from pipeline.s3 import Bucket, open_bucket
from pipeline.settings import Settings, load_settings
from pipeline.write import Writer
from tests.integration.written import AT_MS, Record, store
from tests.site import until
from tests.stack import S3Server, Servers
from tests.unit.ingress_client import Remembering

JPEG = base64.b64decode(  # one grey pixel
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAgGBgcGBQgHBwcJCQgKDBQNDAsLDBkSEw8UHRofHh0aHBwgJC4nICIsIxwcKDcpLDAxNDQ0Hyc5PTgy"
    "PC4zNDL/wAALCAABAAEBAREA/8QAFAABAAAAAAAAAAAAAAAAAAAACf/EABQQAQAAAAAAAAAAAAAAAAAAAAD/2gAIAQEAAD8AVN//2Q=="
)
KEY = "the-key-of-waha"
CHAT = "5511988887777@c.us"


@dataclass
class Files:
    """An HTTP server of files by path. `gate` holds every answer; `answer` is asked first, and may answer for itself."""

    base_url: str
    files: dict[str, bytes] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    keys: list[str | None] = field(default_factory=list)
    answer: Callable[[Request], Response | None] = lambda _: None
    gate: asyncio.Event | None = None
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, name: str, data: bytes, session: str = "default") -> str:
        """The URL as WAHA writes it: with a host that is its own idea."""
        self.files[f"/api/files/{session}/{name}"] = data
        return f"http://localhost:3000/api/files/{session}/{name}"

    async def serve(self, request: Request) -> Response:
        path = request.url.path
        self.asked[path] += 1
        self.keys.append(request.headers.get("x-api-key"))
        self.arrived.set()
        if self.gate is not None:
            await self.gate.wait()
        if (own := self.answer(request)) is not None:
            return own
        if path not in self.files:
            return JSONResponse({"message": "ENOENT", "error": "Not Found", "statusCode": 404}, 404)
        return Response(self.files[path], media_type="application/octet-stream")


@asynccontextmanager
async def serving() -> AsyncIterator[Files]:
    port, stop = free_port(), asyncio.Event()
    files = Files(f"http://127.0.0.1:{port}")
    app = Starlette(routes=[Route("/{path:path}", files.serve)])
    task = asyncio.create_task(serve_http(app, host="127.0.0.1", port=port, stop=stop, name="files"))
    await listening(port)
    try:
        yield files
    finally:
        if files.gate is not None:
            files.gate.set()
        stop.set()
        await task


async def listening(port: int) -> None:
    async def probe() -> bool | None:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return None
        writer.close()
        return True

    await until(probe, "the server of files")


async def media_environment(
    servers: Servers, files: Files, database: str, *, s3: S3Server | None = None, **more: str
) -> dict[str, str]:
    """For load_settings: a database, a bucket of its own (on the run's store unless `s3` is another), the server of
    files as WAHA."""
    server = await servers.database()
    s3 = s3 or await servers.s3()
    bucket = f"media-{secrets.token_hex(4)}"
    await make_bucket(s3, bucket)
    return {
        "WHATSAPP_DB_HOST": server.host, "WHATSAPP_DB_PORT": str(server.port), "WHATSAPP_DB_USER": server.user,
        "WHATSAPP_DB_PASSWORD": server.password, "WHATSAPP_DB_NAME": database,
        "WAPIPE_S3_ENDPOINT_URL": s3.url, "WHATSAPP_MINIO_ROOT_USER": s3.access_key,
        "WHATSAPP_MINIO_ROOT_PASSWORD": s3.secret, "WHATSAPP_MINIO_BUCKET": bucket,
        "WAPIPE_WAHA_URL": files.base_url, "WHATSAPP_API_KEY": KEY, "WAPIPE_MEDIA_THUMBNAILS": "false",
        "WAPIPE_MEDIA_ASK_BACKOFF_S": "0", **more,
    }  # fmt: skip


async def make_bucket(s3: S3Server, name: str) -> None:
    """A private one, on the run's server."""
    async with s3_client(s3.url, LocalBucket(name, s3.access_key, s3.secret)) as client:
        await client.create_bucket(Bucket=name)


def media_message(
    raw_id: str, url: str | None, *, session: str = "default", event: str = "message", topic: str | None = None,
    at_ms: int | None = None, sha256: bytes | None = None, size: int | None = None, kind: str = "image",
    mimetype: str = "image/jpeg", chat: str = CHAT, s3: tuple[str, str] | None = None, **payload: Any,
) -> Record:  # fmt: skip
    """A message with a file as NOWEB tells it; its envelope is stamped now unless `at_ms` says when."""
    stamped = at_ms if at_ms is not None else int(time.time() * 1000)
    part: dict[str, Any] = {"mimetype": mimetype}
    if sha256 is not None:
        part["fileSha256"] = {"type": "Buffer", "data": list(sha256)}
    if size is not None:
        part["fileLength"] = str(size)
    media: dict[str, Any] = {"url": url, "mimetype": mimetype, "filename": None}
    if s3 is not None:
        media["s3"] = {"Bucket": s3[0], "Key": s3[1]}
    full = {
        "id": f"false_{chat}_{raw_id}", "timestamp": AT_MS // 1000, "body": None, "hasMedia": True, "media": media,
        "_data": {"message": {f"{kind}Message": part}}, **payload,
    }  # fmt: skip
    body = {
        "event": event,
        "session": session,
        "id": f"evt_{raw_id}",
        "timestamp": stamped,
        "engine": "NOWEB",
        "payload": full,
    }
    found = Record(orjson.dumps(body), event)
    return found if topic is None else Record(found.value, event, topic)


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


@dataclass
class Desk:
    """The media consumer's writer and the rows it makes. `offsets` count up by topic, so that every record is new."""

    settings: Settings
    pool: Pool
    bucket: Bucket
    offsets: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.consumer = Media(self.pool, self.settings.media)
        self.consumer.name = f"media-{secrets.token_hex(4)}"
        self.writer: Writer[Any] = Writer(self.consumer, self.pool, cast(Publisher, Remembering()))

    async def told(self, *records: Record) -> None:
        """One batch."""
        numbered = []
        for record in records:
            offset = self.offsets[record.topic]
            numbered.append(Record(record.value, record.event, record.topic, 0, offset, record.received_at_ms))
            self.offsets[record.topic] += 1
        await store(self.writer, self.consumer, numbered)

    async def jobs(self, session: str = "default") -> dict[str, dict[str, Any]]:
        """The rows of a session by raw id."""
        rows = await self.pool.fetch(
            """SELECT d.*, s.name AS session FROM whatsapp_gateway.media_downloads d
               JOIN whatsapp_gateway.sessions s ON s.id = d.session_id WHERE s.name = $1""", session
        )  # fmt: skip
        return {row["message_id"].split("_")[2]: dict(row) for row in rows}

    async def states(self, session: str = "default") -> Counter[str]:
        rows = await self.pool.fetch(
            """SELECT download_status AS state, count(*) AS n FROM whatsapp_gateway.media_downloads d
               JOIN whatsapp_gateway.sessions s ON s.id = d.session_id WHERE s.name = $1 GROUP BY 1""", session
        )  # fmt: skip
        return Counter({row["state"]: row["n"] for row in rows})

    async def keys(self, prefix: str = "") -> list[str]:
        """What lies in the bucket."""
        return [entry.key async for entry in self.bucket.entries(prefix)]

    async def references(self) -> dict[bytes, int]:
        rows = await self.pool.fetch(
            """SELECT o.sha256, count(d.sha256) AS n FROM whatsapp_gateway.media_objects o
               LEFT JOIN whatsapp_gateway.media_downloads d USING (sha256) GROUP BY 1"""
        )
        return {row["sha256"]: row["n"] for row in rows}

    async def settled(self, session: str = "default") -> dict[str, dict[str, Any]]:
        """The jobs when none of them waits or runs."""

        async def probe() -> dict[str, dict[str, Any]] | None:
            jobs = await self.jobs(session)
            open_ = [j for j in jobs.values() if j["download_status"] in ("pending", "running")]
            return None if open_ else jobs

        return await until(probe, "every file to be fetched or given up")

    async def thumbnails_settled(self) -> None:
        """When no thumbnail is wanted any more."""

        async def probe() -> bool | None:
            wanted = await self.pool.fetchval(
                "SELECT count(*) FROM whatsapp_gateway.media_objects WHERE thumbnail = 'wanted'"
            )
            return True if wanted == 0 else None

        await until(probe, "thumbnails")


@asynccontextmanager
async def open_desk(environment: dict[str, str]) -> AsyncIterator[Desk]:
    settings = load_settings(environment)
    pool = await open_pool(settings.database, name="tests of media", max_size=10)
    try:
        async with open_bucket(settings.s3, connections=50) as bucket:
            yield Desk(settings, pool, bucket)
    finally:
        await pool.close()


async def nobody(source: str, session: str, chat: str, message_id: str) -> Place | None:
    """An AskAgain of a WAHA that has lost everything."""
    return None


@asynccontextmanager
async def downloading(
    desk: Desk, ask: AskAgain = nobody, settings: Settings | None = None, pauses: Pauses | None = None
) -> AsyncIterator[Downloads]:
    """The loops of one process, until the block ends."""
    stop = asyncio.Event()
    async with downloads(settings or desk.settings, desk.pool, pauses=pauses, ask=ask) as running:
        task = asyncio.create_task(running.run(stop, grace_s=10))
        try:
            yield running
        finally:
            stop.set()
            await task
