"""What lies in a spool, read from outside: for `wapipe spool show` and `verify`, and for the books. Changes nothing."""

from __future__ import annotations

import contextlib
import fcntl
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.spool.record import Kind
from pipeline.spool.segment import Position, Segment, read_content
from pipeline.spool.slot import ASIDE, LOCK, read_position, segment_files, slot_folders


@dataclass(slots=True)
class SlotContents:
    """One directory. `records` are those that the topics do not have yet; `damaged` counts places, in files set aside too."""

    path: Path
    held_by: int | None  # process id; 0 where a process holds it and its id is not known
    segments: int = 0
    records: int = 0
    size_bytes: int = 0
    oldest_ms: int | None = None
    torn_bytes: int = 0
    damaged: int = 0
    damaged_bytes: int = 0
    aside: int = 0  # files
    aside_bytes: int = 0

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"path": str(self.path), "name": self.path.name}


def read_spool(root: Path, prefix: str) -> list[SlotContents]:
    """Every directory of an installation. Raises OSError where it may not be read; no spool at all is an empty list."""
    return [_read_slot(path) for path in slot_folders(root, prefix)]


def count_records(root: Path, prefix: str) -> int | None:
    """Records that wait in an installation's spool on this machine; None where there is none, or it may not be read."""
    if not root.is_dir():
        return None
    with contextlib.suppress(OSError):
        return sum(slot.records for slot in read_spool(root, prefix))
    return None


def _read_slot(path: Path) -> SlotContents:
    found = SlotContents(path, _holder(path))
    position = read_position(path)
    for file in segment_files(path):
        with contextlib.suppress(FileNotFoundError):  # drained meanwhile
            _add(found, Segment(file), position)
            found.segments += 1
    for file in segment_files(path / ASIDE):
        aside = SlotContents(path, None)
        _add(aside, Segment(file), None)
        found.aside += 1
        found.aside_bytes += aside.size_bytes
        found.damaged += aside.damaged
        found.damaged_bytes += aside.damaged_bytes
    return found


def _add(found: SlotContents, segment: Segment, position: Position | None) -> None:
    content = read_content(segment, position)
    found.records += segment.records
    found.size_bytes += segment.size_bytes
    if segment.oldest_ms is not None:
        found.oldest_ms = min(segment.oldest_ms, found.oldest_ms or segment.oldest_ms)
    found.torn_bytes += sum(p.end - p.start for p in content.of(Kind.TORN))
    damaged = content.of(Kind.DAMAGED)
    found.damaged += len(damaged)
    found.damaged_bytes += sum(p.end - p.start for p in damaged)


def _holder(path: Path) -> int | None:
    """The process that holds a directory. The lock is asked, not the id: an id may be of a dead process."""
    try:
        fd = os.open(path / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(fd, 20, 0)
        return int(text) if text.isdigit() else 0
    finally:
        os.close(fd)
    return None
