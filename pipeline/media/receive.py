"""A stream into the bucket with two parts of it in memory at most: hashed, counted, capped, and its first bytes kept.

A file of one part stays in memory until its hash is known and is then put where it belongs. A larger one goes in parts to
a temporary key, and is copied by the store afterwards; what a store has already is only read.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import uuid4

from pipeline.media.fetch import Body, BrokenFileError
from pipeline.media.kinds import HEAD_BYTES
from pipeline.media.objects import TEMPORARY
from pipeline.media.scan import Scan, Scanner
from pipeline.s3 import PART_BYTES, Bucket

_BINARY = "application/octet-stream"


class TooLargeError(Exception):
    """More bytes than this type of file may have."""


@dataclass(slots=True)
class Received:
    """A file that came whole. `put` it, or leave the context and it is gone."""

    sha256: bytes
    size: int
    head: bytes
    _bucket: Bucket
    _data: bytes | None = field(repr=False)
    _parts: _Parts | None
    _source: Body

    async def put(self, key: str, content_type: str) -> None:
        """Makes it the object `key`. Raises TransientError, ChangedError."""
        if self._data is not None:
            await self._bucket.put(key, self._data, content_type)
        elif self._parts is not None:
            await self._parts.complete()
            await self._bucket.copy(self._parts.key, key, content_type)
        else:
            where = self._source
            assert where.key is not None
            await self._bucket.copy(where.key, key, content_type, bucket=where.bucket, etag=where.etag)


@asynccontextmanager
async def received(
    body: Body, bucket: Bucket, *, cap_bytes: int, expected_sha256: bytes | None, scanner: Scanner | None
) -> AsyncIterator[Received]:
    """Reads `body` to its end. Raises TooLargeError, BrokenFileError, QuarantinedError, UnscannableError,
    TransientError."""
    if body.length is not None and body.length > cap_bytes:
        raise TooLargeError
    parts = _Parts(bucket) if body.key is None else None
    try:
        async with _scanning(scanner) as scan:
            found = await _read(body, bucket, parts, cap_bytes, scan)
            if body.length is not None and found.size != body.length:
                raise BrokenFileError("length_mismatch", f"{found.size} of {body.length} bytes")
            if found.size == 0:
                raise BrokenFileError("empty")
            if expected_sha256 is not None and found.sha256 != expected_sha256:
                raise BrokenFileError("hash_mismatch")
            if scan is not None:
                await scan.verdict()
        yield found
    finally:
        if parts is not None:
            await parts.remove()


async def _read(body: Body, bucket: Bucket, parts: _Parts | None, cap_bytes: int, scan: Scan | None) -> Received:
    digest, size, head, buffer = hashlib.sha256(), 0, b"", bytearray()
    whole = True  # all of it is in the buffer
    async for chunk in body.chunks:
        size += len(chunk)
        if size > cap_bytes:
            raise TooLargeError
        digest.update(chunk)
        if len(head) < HEAD_BYTES:
            head += chunk[: HEAD_BYTES - len(head)]
        if scan is not None:
            await scan.feed(chunk)
        buffer += chunk
        if len(buffer) >= PART_BYTES:
            whole = False
            if parts is not None:
                await parts.add(bytes(buffer))
            buffer.clear()
    if whole:
        return Received(digest.digest(), size, head, bucket, bytes(buffer), None, body)
    if parts is not None and buffer:
        await parts.add(bytes(buffer))
    return Received(digest.digest(), size, head, bucket, None, parts, body)


class _Parts:
    """An upload in parts under a temporary key, one of them on its way at a time while the next one comes in."""

    def __init__(self, bucket: Bucket) -> None:
        self.key = f"{TEMPORARY}{datetime.now(UTC):%Y-%m-%d}/{uuid4().hex}"
        self._bucket = bucket
        self._upload: str | None = None
        self._etags: list[str] = []
        self._on_its_way: asyncio.Task[str] | None = None
        self._completed = False

    async def add(self, data: bytes) -> None:
        if self._upload is None:
            self._upload = await self._bucket.begin(self.key, _BINARY)
        await self._settle()
        number = len(self._etags) + 1
        self._on_its_way = asyncio.create_task(self._bucket.put_part(self.key, self._upload, number, data))

    async def complete(self) -> None:
        if self._completed:  # a sweep came in between
            return
        await self._settle()
        assert self._upload is not None
        await self._bucket.complete(self.key, self._upload, self._etags)
        self._completed = True

    async def remove(self) -> None:
        """Nothing is left under the temporary key. What this cannot remove a sweep does."""
        if self._on_its_way is not None:
            self._on_its_way.cancel()
            await asyncio.gather(self._on_its_way, return_exceptions=True)
        if self._completed:
            await self._bucket.delete(self.key)
        elif self._upload is not None:
            await self._bucket.abort(self.key, self._upload)

    async def _settle(self) -> None:
        if self._on_its_way is not None:
            self._etags.append(await self._on_its_way)
            self._on_its_way = None


@asynccontextmanager
async def _scanning(scanner: Scanner | None) -> AsyncIterator[Scan | None]:
    if scanner is None:
        yield None
        return
    async with scanner.scan() as scan:
        yield scan
