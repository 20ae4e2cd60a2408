"""Files of messages: a link to the object, or the object itself, and the list of files by what became of them.

A file belongs to a message, and a message to a session: the hash of an object is no way to it. Nothing is sent that a
browser would run: the type is what the bytes say, and what is not a picture, a video or a sound is a download.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import RedirectResponse, Response, StreamingResponse
from pydantic import Field
from starlette.types import Receive, Scope, Send

from pipeline.api import cursor, items
from pipeline.api.media_models import MediaJob, MediaJobs
from pipeline.api.problems import Problem, bad_parameter, problem_response
from pipeline.api.routes import (
    EVERYWHERE,
    UNKNOWN_SESSION,
    MessageName,
    Page,
    SessionName,
    StoreOf,
    check_token,
    no_session,
    read_cursor,
)
from pipeline.api.store import Store
from pipeline.media.kinds import disposition, file_name, served_type
from pipeline.media.objects import object_key, thumbnail_key
from pipeline.s3 import Bucket, MissingError, Opened, RangeError, open_bucket
from pipeline.settings import Settings
from schemas.ids import parse_message_id
from sql import queries

_SQL = queries("media")
_RANGE = re.compile(r"^bytes=(\d{1,15}-\d{0,15}|-\d{1,15})$")
# Whatever a browser makes of a file, it can reach nothing from there.
_SAFE = {
    "X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-site",
}  # fmt: skip
_BROWSER_MAY_KEEP = "private, max-age=3600"
State = Literal["pending", "running", "stored", "skipped", "failed", "expired"]


class MediaDesk:
    """The bucket as the API needs it; opened when the first file is asked for. `close` it at the end."""

    def __init__(self, settings: Settings) -> None:
        self.media, self._s3 = settings.media, settings.s3
        self._stack = AsyncExitStack()
        self._bucket: Bucket | None = None
        self._signer: Bucket | None = None

    async def bucket(self) -> Bucket:
        """To read from."""
        if self._bucket is None:
            self._bucket = await self._stack.enter_async_context(open_bucket(self._s3, connections=50))
        return self._bucket

    async def signer(self) -> Bucket:
        """To sign URLs as clients reach the store."""
        if self._s3.public_url is None:
            return await self.bucket()
        if self._signer is None:
            self._signer = await self._stack.enter_async_context(open_bucket(self._s3, url=self._s3.public_url))
        return self._signer

    async def close(self) -> None:
        """See class."""
        self._bucket = self._signer = None
        await self._stack.aclose()


class Found(NamedTuple):
    """An object that may be shown."""

    key: str
    sha256: bytes
    mimetype: str | None
    name: str
    size: int | None


class JobsPage(Page):
    """Which files."""

    state: State = Field("failed", description="What became of them.")
    session: str | None = Field(None, description="Of this session only.")


async def _desk(request: Request) -> MediaDesk:
    desk: MediaDesk = request.app.state.media
    return desk


DeskOf = Annotated[MediaDesk, Depends(_desk)]
Revoked = Annotated[
    Literal["revoked"] | None, Query(description="revoked: also the file of a message that was taken back.")
]
router = APIRouter(prefix="/api", dependencies=[Depends(check_token)], responses=EVERYWHERE)
FILE: dict[int | str, dict[str, Any]] = {
    200: {"description": "The file (WAPIPE_MEDIA_PROXY).", "content": {"application/octet-stream": {}}},
    206: {"description": "A part of it, as `Range` asks."},
    302: {"description": "Where the store has it, for a short while."},
    404: problem_response("No such session or message, or its file is not stored: `type` says what became of it."),
    416: problem_response("The file has no such range."),
}


@router.get("/media", responses=UNKNOWN_SESSION, operation_id="list_media")
async def list_media(page: Annotated[JobsPage, Query()], store: StoreOf) -> MediaJobs:
    """Files by what became of them, newest first."""
    scope = ("media", page.state, page.session or "")
    at, chat_id, key = read_cursor(_decode_place, page.before, scope) or (cursor.END, 0, UUID(int=0))
    async with store.connection() as connection:
        if page.session is not None and (
            "\x00" in page.session or not await connection.fetch(_SQL["session"], page.session)
        ):
            raise no_session()
        rows = await connection.fetch(_SQL["list"], page.state, page.session, at, chat_id, key, page.limit + 1)
    shown = rows[: page.limit]
    following = None
    if len(rows) > page.limit:
        last = shown[-1]
        following = cursor.encode_values([cursor.to_us(last["created_at"]), last["chat_id"], last["key"].hex], *scope)
    return MediaJobs(items=[_job(row) for row in shown], next=following)


@router.get("/media/{session}/{message}", responses=FILE, operation_id="read_media", response_class=Response)
async def read_media(
    request: Request, session: SessionName, message: MessageName, *, store: StoreOf, desk: DeskOf,
    include: Revoked = None,
) -> Response:  # fmt: skip
    """The file of a message: a redirect to a URL of the store that works for a short while, or the file itself."""
    return await answer_file(request, desk, await _find(store, session, message, hidden=include is None))


@router.get(
    "/media/{session}/{message}/thumbnail", responses=FILE, operation_id="read_thumbnail", response_class=Response
)
async def read_thumbnail(
    request: Request, session: SessionName, message: MessageName, *, store: StoreOf, desk: DeskOf,
    include: Revoked = None,
) -> Response:  # fmt: skip
    """A small JPEG of a picture."""
    found = await _find(store, session, message, hidden=include is None, thumbnail=True)
    return await answer_file(request, desk, found)


async def _find(store: Store, session: str, message: str, *, hidden: bool, thumbnail: bool = False) -> Found:
    parsed = parse_message_id(message)
    if parsed is None:
        raise bad_parameter("message", "the serialized id is needed, which names its chat: false_49…@c.us_3EB0…")
    page = await store.message(session, parsed.chat, parsed.raw)
    if page is None:
        raise no_session()
    include = frozenset[str]() if hidden else frozenset({"revoked"})
    shown = [
        (items.to_message(row, page.state, place, include, page.files.get(place)), place) for row, place in page.shown
    ]
    exact = [(item, place) for item, place in shown if item.id == message] or shown
    if not exact:
        raise Problem(404, "no-such-message", "The chat has no message of this id, or it has not come yet.")
    item, place = exact[0]
    if item.media is None:
        raise Problem(404, "no-file", "This message has no file.")
    if item.revoked is not None and hidden:
        raise Problem(404, "revoked", "This message was taken back; ?include=revoked answers its file all the same.")
    file = page.files.get(place)
    if file is None or file["sha256"] is None:
        raise _not_stored(file)
    if thumbnail and file["thumbnail"] != "made":
        raise Problem(404, "no-thumbnail", "There is no thumbnail of this file, or not yet.")
    name = file_name(file["filename"], file["extension"], parsed.raw)
    if thumbnail:
        return Found(
            thumbnail_key(file["sha256"]), file["sha256"], "image/jpeg", file_name(None, "jpg", parsed.raw), None
        )
    return Found(object_key(file["sha256"]), file["sha256"], file["sniffed"], name, file["bytes"])


def _not_stored(file: Any) -> Problem:
    state = file["download_status"] if file is not None else "pending"
    if state in ("pending", "running"):
        return Problem(404, "file-pending", "The file is not fetched yet; try again.", {"Retry-After": "5"})
    return Problem(404, f"file-{state}", f"The file was not stored: {file['reason']}.")


async def answer_file(request: Request, desk: MediaDesk, found: Found) -> Response:
    """A redirect, or the file itself where WAPIPE_MEDIA_PROXY is set. Raises Problem."""
    if desk.media.proxy:
        return await _send(request, await desk.bucket(), found)
    overrides = {
        "ResponseContentType": served_type(found.mimetype),
        "ResponseContentDisposition": disposition(found.mimetype, found.name),
    }
    url = await (await desk.signer()).presigned(found.key, desk.media.link_s, overrides)
    return RedirectResponse(url, 302, headers={"Cache-Control": "no-store"})


async def _send(request: Request, bucket: Bucket, found: Found) -> Response:
    """The object itself. One range is answered as such; anything else that a client asks for, with the whole."""
    etag = f'"{found.sha256.hex()}"'
    headers = {
        **_SAFE, "ETag": etag, "Cache-Control": _BROWSER_MAY_KEEP, "Accept-Ranges": "bytes",
        "Content-Disposition": disposition(found.mimetype, found.name),
    }  # fmt: skip
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    wanted = request.headers.get("range", "")
    if request.headers.get("if-range", etag) != etag or not _RANGE.match(wanted):
        wanted = ""
    stack = AsyncExitStack()
    try:
        opened = await stack.enter_async_context(bucket.read(found.key, range_=wanted or None))
    except RangeError:
        whole = {"Content-Range": f"bytes */{found.size}"} if found.size is not None else None
        raise Problem(416, "no-such-range", "The file has no such range.", whole) from None
    except MissingError as exc:
        raise Problem(
            404, "file-missing", "The store does not have the file; `wapipe media verify` says more."
        ) from exc
    headers["Content-Length"] = str(opened.length)
    if opened.range_ is not None:
        headers["Content-Range"] = opened.range_
    status = 206 if opened.range_ is not None else 200
    return _Streamed(stack, opened, status, headers, served_type(found.mimetype))


class _Streamed(StreamingResponse):
    """Gives the store's connection back whatever becomes of the client."""

    def __init__(self, stack: AsyncExitStack, opened: Opened, status: int, headers: dict[str, str], kind: str) -> None:
        super().__init__(_chunks(opened), status, headers, kind)
        self._stack = stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._stack:
            await super().__call__(scope, receive, send)


async def _chunks(opened: Opened) -> AsyncIterator[bytes]:
    async for chunk in opened.chunks:
        yield chunk


def _decode_place(text: str, *scope: str) -> tuple[Any, int, UUID]:
    at, chat_id, key = cursor.decode_values(text, (datetime, int, str), *scope)
    return at, chat_id, UUID(key)


def _job(row: Any) -> MediaJob:
    over = row["finished_at"] is not None
    stored = row["sha256"] is not None
    return MediaJob(
        session=row["session"], message=row["message_id"], type=row["type"], state=row["download_status"],
        reason=row["reason"], attempts=row["attempts"], asked=row["asked"], last_error=row["last_error"],
        deadline=row["deadline"], next_at=None if over else row["next_at"], mimetype=row["sniffed"] or row["mimetype"],
        filename=row["filename"], bytes=row["bytes"] if stored else row["claimed_bytes"],
        sha256=row["sha256"].hex() if stored else None,
        link=items.media_link(row["session"], row["message_id"]) if stored else None,
        created_at=row["created_at"], finished_at=row["finished_at"],
    )  # fmt: skip
