"""Holds objects to their rows: every one (or a sample) is read and hashed again, and the bucket is searched for strangers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pipeline.media.objects import OBJECTS, object_key, sha256_of
from pipeline.postgres import Pool, translated
from pipeline.s3 import Bucket, MissingError
from sql import queries

_SQL = queries("media")
_PAGE = 200


@dataclass(slots=True)
class Verified:
    """What was looked at, and the hashes (hex) of what is wrong."""

    objects: int = 0
    bytes: int = 0
    missing: list[str] = field(default_factory=list)  # a row, and no object
    damaged: list[str] = field(default_factory=list)  # bytes that are not the hash's
    unknown: list[str] = field(default_factory=list)  # an object, and no row

    @property
    def is_well(self) -> bool:
        """Everything is as the rows say. Objects without a row are what a process left that died: sweep takes them."""
        return not self.missing and not self.damaged


async def count_objects(pool: Pool) -> int:
    """How many there are to verify."""
    async with translated():
        row = await pool.fetchrow(_SQL["objects"])
    assert row is not None
    return int(row["objects"])


async def verify(
    pool: Pool, bucket: Bucket, *, sample: int | None, step: Callable[[], None] = lambda: None
) -> Verified:
    """All objects, or `sample` of them by chance; `step` is called after each. Raises TransientError."""
    found = Verified()
    last = b""
    while True:
        async with translated():
            if sample is not None:
                rows = await pool.fetch(_SQL["sample_objects"], sample)
            else:
                rows = await pool.fetch(_SQL["some_objects"], last, _PAGE)
        for row in rows:
            await _verify_one(pool, bucket, row, found)
            step()
        if sample is not None or len(rows) < _PAGE:
            break
        last = rows[-1]["sha256"]
    if sample is None:
        await _search(pool, bucket, found)
    return found


async def _verify_one(pool: Pool, bucket: Bucket, row: Any, found: Verified) -> None:
    sha256: bytes = row["sha256"]
    digest, size = hashlib.sha256(), 0
    try:
        async with bucket.read(object_key(sha256)) as opened:
            async for chunk in opened.chunks:
                digest.update(chunk)
                size += len(chunk)
    except MissingError:
        async with translated():  # unless a sweep was faster
            still = await pool.fetchval(_SQL["is_stored"], sha256)
        if still:
            found.missing.append(sha256.hex())
        return
    found.objects += 1
    found.bytes += size
    if digest.digest() != sha256 or size != row["bytes"]:
        found.damaged.append(sha256.hex())
        return
    async with translated():
        await pool.execute(_SQL["verified"], sha256)


async def _search(pool: Pool, bucket: Bucket, found: Verified) -> None:
    page = list[bytes]()

    async def look() -> None:
        async with translated():
            known = {row["sha256"] for row in await pool.fetch(_SQL["known_objects"], page)}
        found.unknown += [sha256.hex() for sha256 in page if sha256 not in known]
        page.clear()

    async for entry in bucket.entries(OBJECTS):
        sha256 = sha256_of(entry.key)
        if sha256 is None:
            found.unknown.append(entry.key)
            continue
        page.append(sha256)
        if len(page) >= _PAGE:
            await look()
    await look()
