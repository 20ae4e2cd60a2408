"""Takes away what nobody refers to: objects, what died under a temporary key, uploads in parts that nobody completes.

An object is marked, then deleted while its row is locked, then the row goes: whoever wants to refer to it meanwhile waits
and stores it again (objects.py). An object without a row is given one first, and goes the same way at the next sweep.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pipeline.media.objects import OBJECTS, TEMPORARY, object_key, sha256_of, thumbnail_key
from pipeline.postgres import Pool, transaction, translated
from pipeline.s3 import Bucket, Entry
from sql import queries

_SQL = queries("media")
_PAGE = 500


@dataclass(slots=True)
class Swept:
    """What a sweep took away, or with dry_run would. `adopted`: objects without a row, which the next sweep takes."""

    objects: int = 0
    bytes: int = 0
    temporary: int = 0
    uploads: int = 0
    adopted: int = 0


async def sweep(pool: Pool, bucket: Bucket, *, grace_s: float, dry_run: bool) -> Swept:
    """One sweep. What is younger than `grace_s` stays. Raises TransientError; may be repeated."""
    found = Swept()
    async for sha256, size in _unreferenced(pool, grace_s):
        if dry_run or await _remove(pool, bucket, sha256, grace_s):
            found.objects += 1
            found.bytes += size
    before = datetime.now(UTC) - timedelta(seconds=grace_s)
    async for entry in bucket.entries(TEMPORARY):
        if entry.modified <= before:
            found.temporary += 1
            if not dry_run:
                await bucket.delete(entry.key)
    for key, upload, begun in await bucket.uploads(TEMPORARY):
        if begun <= before:
            found.uploads += 1
            if not dry_run:
                await bucket.abort(key, upload)
    found.adopted = await _adopt(pool, bucket, before, dry_run=dry_run)
    return found


async def _unreferenced(pool: Pool, grace_s: float) -> AsyncIterator[tuple[bytes, int]]:
    last = b""
    while True:
        async with translated():
            rows = await pool.fetch(_SQL["unreferenced"], grace_s, last, _PAGE)
        for row in rows:
            yield row["sha256"], row["bytes"]
        if len(rows) < _PAGE:
            return
        last = rows[-1]["sha256"]


async def _remove(pool: Pool, bucket: Bucket, sha256: bytes, grace_s: float) -> bool:
    """False when somebody claimed it meanwhile."""
    async with transaction(pool) as connection:
        await connection.execute(_SQL["lock_object"], sha256)
        mark = await connection.fetchrow(_SQL["mark_swept"], sha256, grace_s)
    if mark is None:
        return False
    async with transaction(pool) as connection:
        if await connection.fetchval(_SQL["lock_swept"], sha256, mark["swept"], mark["claimed_at"]) is None:
            return False
        await bucket.delete(thumbnail_key(sha256))
        await bucket.delete(object_key(sha256))
        await connection.execute(_SQL["delete_object"], sha256)
    return True


async def _adopt(pool: Pool, bucket: Bucket, before: datetime, *, dry_run: bool) -> int:
    """Objects that no row knows: a process died between the store and the database."""
    count, page = 0, list[Entry]()

    async def look() -> int:
        hashes = {found: entry for entry in page if (found := sha256_of(entry.key)) is not None}
        async with translated():
            known = {row["sha256"] for row in await pool.fetch(_SQL["known_objects"], list(hashes))}
            unknown = [(sha256, entry.bytes, entry.modified) for sha256, entry in hashes.items() if sha256 not in known]
            if unknown and not dry_run:
                await pool.executemany(_SQL["adopt"], unknown)
        page.clear()
        return len(unknown)

    async for entry in bucket.entries(OBJECTS):
        if entry.modified <= before:
            page.append(entry)
        if len(page) >= _PAGE:
            count += await look()
    return count + await look()
