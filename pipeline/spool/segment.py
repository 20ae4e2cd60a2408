"""One file of the spool: a header with the file's own id, then frames. Blocking calls: threads make them.

A segment is written by one open() only, never appended to after a restart: what stands behind the last good frame of
a file that is closed is what a killed process left, and was never acknowledged.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import PoisonError
from pipeline.spool.record import Kind, Piece, decode, scan

SUFFIX = ".spool"
SEGMENT_BYTES = 16 * 1024 * 1024  # a new file from there on: a drained one gives its space back
_MAGIC = b"WAPSPL1\n"
HEADER_BYTES = 16


@dataclass(slots=True)
class Segment:
    """A segment and what is known of it. Everything before `position` is done with; `records` counts what is after."""

    path: Path
    identity: str = ""  # of its header; empty if that is unreadable
    size_bytes: int = 0
    records: int = 0
    oldest_ms: int | None = None
    position: int = 0
    flaw: str | None = None  # "damaged" or "refused": it is set aside when it is drained, not deleted

    @property
    def number(self) -> int:
        """Its place in the order of writing."""
        return int(self.path.name.partition(".")[0])


@dataclass(frozen=True, slots=True)
class Content:
    """A segment's bytes, and the pieces of them after its position."""

    data: bytes
    pieces: list[Piece]

    def of(self, kind: Kind) -> list[Piece]:
        """The pieces of one kind."""
        return [p for p in self.pieces if p.kind is kind]


def file_name(number: int) -> str:
    """Sorts as the numbers do."""
    return f"{number:010d}{SUFFIX}"


class Position(NamedTuple):
    """How far a segment is done with, and what was found wrong until there."""

    identity: str
    offset: int
    flaw: str | None


def read_content(segment: Segment, position: Position | None) -> Content:
    """Reads the file and fills in what is known of it. A position of another segment does not count. Raises OSError."""
    data = segment.path.read_bytes()
    segment.size_bytes = len(data)
    well = data.startswith(_MAGIC) and len(data) >= HEADER_BYTES
    segment.identity = data[len(_MAGIC) : HEADER_BYTES].hex() if well else ""
    if _MAGIC.startswith(data[: len(_MAGIC)]) and not well:  # killed while the header was written
        content = Content(data, [Piece(0, len(data), Kind.TORN)] if data else [])
    else:
        segment.position = HEADER_BYTES if well else 0
        if position is not None and position.identity == segment.identity:
            segment.position, segment.flaw = position.offset, position.flaw
        content = Content(data, list(scan(data, segment.position)))
    good = content.of(Kind.GOOD)
    segment.records = len(good)
    segment.oldest_ms = _spooled_at(data, good[0]) if good else None
    if content.of(Kind.DAMAGED):
        segment.flaw = segment.flaw or "damaged"
    return content


def _spooled_at(data: bytes, piece: Piece) -> int | None:
    try:
        return decode(data, piece).at_ms
    except PoisonError:
        return None


class OpenSegment:
    """The segment that is being written. A failed write leaves it as it was, or closed for good."""

    def __init__(self, path: Path) -> None:
        """Creates the file; its name is durable when this returns. Raises OSError, and then leaves no file."""
        identity = secrets.token_bytes(HEADER_BYTES - len(_MAGIC))
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self.segment = Segment(path, identity.hex(), position=HEADER_BYTES)
        try:
            self._write(_MAGIC + identity)
            self.segment.size_bytes = HEADER_BYTES
            sync_folder(path.parent)
        except OSError:
            self.discard()
            raise

    def append(self, frames: list[bytes]) -> None:
        """Returns when the frames are on disk. Raises OSError: none of them counts, and the file must be closed."""
        try:
            self._write(b"".join(frames))
            os.fsync(self._fd)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self.segment.size_bytes)
            raise
        self.segment.size_bytes += sum(map(len, frames))

    def close(self) -> None:
        """Ends writing."""
        with contextlib.suppress(OSError):
            os.close(self._fd)

    def discard(self) -> None:
        """Ends writing and removes the file."""
        self.close()
        self.segment.path.unlink(missing_ok=True)

    def _write(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[os.write(self._fd, left) :]


def sync_folder(path: Path) -> None:
    """Makes the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
