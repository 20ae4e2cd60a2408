"""One directory of the spool: held by one process at a time through a lock that the kernel takes back when it dies.

A spool's folder has a directory for each process that ever ran at the same time. A process takes the lowest that is
free, and drains those that others left behind. Blocking calls: threads make them.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
from collections import deque
from pathlib import Path
from zlib import crc32

import orjson

from pipeline import metrics
from pipeline.errors import ConfigError
from pipeline.spool.record import Kind
from pipeline.spool.segment import SUFFIX, Content, OpenSegment, Position, Segment, file_name, read_content, sync_folder

log = logging.getLogger("wapipe.spool")

LOCK, POSITION, ASIDE = "lock", "position", "aside"
_MOST_SLOTS = 10_000


class Slot:
    """A directory whose lock we have. `segments`: what is closed and not drained, oldest first."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path, self._lock = path, lock
        self.segments: deque[Segment] = deque(Segment(p) for p in segment_files(path))
        for segment in self.segments:
            segment.size_bytes = segment.path.stat().st_size
        taken = [*self.segments, *(Segment(p) for p in segment_files(path / ASIDE))]
        self._next = 1 + max((s.number for s in taken), default=0)

    @property
    def records(self) -> int:
        """Records in closed segments that nobody has acknowledged; 0 before `recover`."""
        return sum(s.records for s in self.segments)

    @property
    def size_bytes(self) -> int:
        """Bytes of closed segments on disk."""
        return sum(s.size_bytes for s in self.segments)

    def recover(self) -> None:
        """Counts what is there and cuts off unfinished writes of a process that was killed."""
        position = read_position(self.path)
        for segment in list(self.segments):
            torn = _read(segment, position).of(Kind.TORN)
            if torn:
                log.warning("spool.torn", extra=_where(segment, bytes=torn[0].end - torn[0].start))
                with contextlib.suppress(OSError):  # what stands there is not read in any case
                    os.truncate(segment.path, torn[0].start)
                    segment.size_bytes = torn[0].start

    def load(self, segment: Segment) -> Content:
        """What of a closed segment is still to be done."""
        content = _read(segment, Position(segment.identity, segment.position, segment.flaw))
        for piece in content.of(Kind.DAMAGED):
            log.error("spool.damaged", extra=_where(segment, start=piece.start, end=piece.end))
        return content

    def new_segment(self) -> OpenSegment:
        """A file behind all others. Raises OSError."""
        opened = OpenSegment(self.path / file_name(self._next))
        self._next += 1
        return opened

    def save_position(self, segment: Segment) -> None:
        """Remembers how far a segment is done with. Where that fails (disk full), a restart sends it again."""
        if not segment.identity:
            return
        position = Position(segment.identity, segment.position, segment.flaw)
        temporary = self.path / f"{POSITION}.new"
        try:
            temporary.write_bytes(orjson.dumps([*position, _check(position)]))
            temporary.replace(self.path / POSITION)
        except OSError as exc:
            log.warning("spool.position_not_saved", extra={"slot": self.path.name, "detail": str(exc)})

    def finish(self, segment: Segment) -> None:
        """Removes a drained segment; one with a flaw is set aside instead, for people to look at."""
        try:
            if segment.flaw is None:
                segment.path.unlink(missing_ok=True)
                return
            folder = self.path / ASIDE
            folder.mkdir(exist_ok=True)
            segment.path.rename(folder / f"{segment.path.stem}.{segment.flaw}{SUFFIX}")
            metrics.SPOOL_SET_ASIDE.labels(segment.flaw).inc()
            log.error("spool.set_aside", extra=_where(segment, flaw=segment.flaw))
        except OSError as exc:  # it stays, and is sent again after a restart
            log.warning("spool.not_removed", extra=_where(segment, detail=str(exc)))

    def take_back(self, flaw: str) -> int:
        """Puts segments that were set aside for `flaw` back into the queue; answers how many. Before `recover`."""
        found = [p for p in segment_files(self.path / ASIDE) if p.name.endswith(f".{flaw}{SUFFIX}")]
        for path in found:
            path.rename(self.path / f"{path.name.partition('.')[0]}{SUFFIX}")
        self.segments = deque(Segment(p) for p in segment_files(self.path))
        return len(found)

    def close(self) -> None:
        """Gives the lock back."""
        os.close(self._lock)


def claim(root: Path, prefix: str) -> Slot:
    """The lowest free directory of an installation, made if there is none. Raises ConfigError if it cannot be had."""
    try:
        _make_folder(root)
        for number in range(_MOST_SLOTS):
            path = root / f"{prefix}slot-{number:04d}"
            _make_folder(path)
            slot = hold(path)
            if slot is not None:
                return slot
    except OSError as exc:
        raise ConfigError(
            f"the spool cannot be kept in {root}: {exc.strerror or exc}. Set WAPIPE_SPOOL_DIR to a folder on a local disk "
            "that this user may write, or WAPIPE_SPOOL_MAX_BYTES=0 to do without a spool"
        ) from exc
    raise ConfigError(f"all {_MOST_SLOTS:,} directories in {root} are in use")


def adopt(root: Path, prefix: str) -> Slot | None:
    """A directory with segments whose process is gone, if there is one."""
    for path in slot_folders(root, prefix):
        with contextlib.suppress(OSError):
            if segment_files(path) and (slot := hold(path)) is not None:
                if slot.segments:
                    return slot
                slot.close()
    return None


def hold(path: Path) -> Slot | None:
    """The directory, if nobody else has it. Raises OSError."""
    fd = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        os.close(fd)
        if isinstance(exc, BlockingIOError):
            return None
        raise
    with contextlib.suppress(OSError):  # for people only: on a full disk it may stay the old one
        os.truncate(fd, 0)
        os.pwrite(fd, b"%d" % os.getpid(), 0)
    try:
        return Slot(path, fd)
    except OSError:
        os.close(fd)
        raise


def slot_folders(root: Path, prefix: str) -> list[Path]:
    """The directories of one installation, whoever holds them."""
    name = re.compile(re.escape(prefix) + r"slot-\d{4}")
    return sorted(p for p in root.glob("*slot-*") if name.fullmatch(p.name) and p.is_dir())


def segment_files(folder: Path) -> list[Path]:
    """The segments in a directory, oldest first."""
    return sorted(p for p in folder.glob(f"*{SUFFIX}") if p.name.partition(".")[0].isdigit())


def read_position(folder: Path) -> Position | None:
    """How far the oldest segment is done with; None when that is not known."""
    try:
        *fields, check = orjson.loads((folder / POSITION).read_bytes())
        position = Position(*fields)
    except (OSError, ValueError, TypeError):
        return None
    return position if check == _check(position) else None


def _make_folder(path: Path) -> None:
    """Makes a directory and its parents, their names durable."""
    if not path.is_dir():
        _make_folder(path.parent)
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)


def _read(segment: Segment, position: Position | None) -> Content:
    """The content; of a file that the disk does not give back, nothing: it is set aside."""
    try:
        return read_content(segment, position)
    except OSError as exc:
        log.error("spool.unreadable", extra=_where(segment, detail=str(exc)))
        segment.flaw = "damaged"
        return Content(b"", [])


def _check(position: Position) -> int:
    return crc32(repr(tuple(position)).encode())


def _where(segment: Segment, **more: object) -> dict[str, object]:
    return {"slot": segment.path.parent.name, "segment": segment.path.name, "size_bytes": segment.size_bytes} | more
