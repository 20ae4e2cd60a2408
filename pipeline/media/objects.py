"""Objects by their bytes: where they lie, and the protocol by which an object is referred to and never swept under a hand.

claim -> put, unless it is there -> store. `store` fails when a sweep came in between; then all of it is done again. Who
refers to an object is a foreign key, so there is no count that could be wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.media.jobs import Job
from pipeline.postgres import Pool, translated
from sql import queries

_SQL = queries("media")
OBJECTS, THUMBNAILS, TEMPORARY = "sha256/", "thumbnails/", "incoming/"


def object_key(sha256: bytes) -> str:
    """sha256/ab/cd/abcd…: two levels, so that a folder view of the bucket stays usable."""
    return f"{OBJECTS}{_spread(sha256)}"


def thumbnail_key(sha256: bytes) -> str:
    """thumbnails/ab/cd/abcd….jpg, by the hash of the picture it was made of."""
    return f"{THUMBNAILS}{_spread(sha256)}.jpg"


def sha256_of(key: str) -> bytes | None:
    """The hash in a key that object_key made, else None."""
    try:
        found = bytes.fromhex(key.rpartition("/")[2])
    except ValueError:
        return None
    return found if len(found) == 32 and object_key(found) == key else None


def _spread(sha256: bytes) -> str:
    name = sha256.hex()
    return f"{name[:2]}/{name[2:4]}/{name}"


@dataclass(frozen=True, slots=True)
class Claim:
    """Nobody sweeps the object for a while. `stored`: the bucket has it."""

    sha256: bytes
    swept: int
    stored: bool


class LeaseLostError(Exception):
    """The job belongs to another process by now."""


class SweptError(Exception):
    """The object was swept since it was claimed: claim and put it again."""


class Objects:
    """The table of objects. Every method raises TransientError while the database is away."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def claim(self, sha256: bytes, size: int, mimetype: str | None, extension: str | None) -> Claim:
        """Before anything is put into the bucket."""
        async with translated():
            row = await self._pool.fetchrow(_SQL["claim"], sha256, size, mimetype, extension)
        assert row is not None
        return Claim(sha256, row["swept"], row["stored"])

    async def store(self, job: Job, claim: Claim, *, thumbnail: bool) -> None:
        """The bucket has it, and the job refers to it. Raises LeaseLostError, SweptError."""
        async with translated():
            row = await self._pool.fetchrow(
                _SQL["store"], job.chat_id, job.key, job.lease, claim.sha256, claim.swept, thumbnail
            )
        assert row is not None
        if not row["held"]:
            raise LeaseLostError
        if not row["done"]:
            raise SweptError
