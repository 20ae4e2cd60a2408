"""Group commit: many callers wait, one thread writes what they brought and syncs it once.

While one sync runs the next group gathers, so the disk decides how large groups are and nobody waits for a timer.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from pipeline import metrics
from pipeline.errors import TransientError
from pipeline.spool.segment import SEGMENT_BYTES, OpenSegment
from pipeline.spool.slot import Slot


class _Waiting(NamedTuple):
    frame: bytes
    at_ms: int
    done: asyncio.Future[None]


class Writer:
    """Appends to a slot. Not more than `max_bytes` lie in the slot, drained segments not counted."""

    def __init__(self, slot: Slot, max_bytes: int) -> None:
        self._slot, self._max_bytes = slot, max_bytes
        self._open: OpenSegment | None = None
        self._waiting: list[_Waiting] = []
        self._in_work: list[_Waiting] = []
        self._waiting_bytes = 0
        self._task: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()  # held while the thread has the file
        self._thread = ThreadPoolExecutor(1, "spool")

    @property
    def records(self) -> int:
        """Records that are not in a closed segment yet, those being written included."""
        written = self._open.segment.records if self._open else 0
        return written + len(self._waiting) + len(self._in_work)

    @property
    def oldest_ms(self) -> int | None:
        """When the oldest of them was spooled."""
        return self._open.segment.oldest_ms if self._open else None

    @property
    def size_bytes(self) -> int:
        """Their bytes."""
        return (self._open.segment.size_bytes if self._open else 0) + self._waiting_bytes

    async def put(self, frame: bytes, at_ms: int) -> None:
        """Returns when the frame is on disk. Raises TransientError: full, or the disk refuses; it is not kept then."""
        if self._slot.size_bytes + self.size_bytes + len(frame) > self._max_bytes:
            metrics.SPOOL_REFUSED.labels("full").inc()
            raise TransientError("spool", f"it is full ({self._max_bytes:,} bytes)")
        waiting = _Waiting(frame, at_ms, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._waiting_bytes += len(frame)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._commit(), name="spool-commit")
        await waiting.done

    async def seal(self) -> None:
        """Closes the segment that is being written and hands it to the slot, so that it can be drained.

        What was brought before is written first: `records` counts it, and whoever drains comes back until there are none.
        """
        await asyncio.sleep(0)  # a commit that was created and has not run yet takes the lock before us
        async with self._lock:
            self._close_segment()

    async def close(self) -> None:
        """Writes what waits, then ends."""
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        await self.seal()
        self._thread.shutdown()

    async def _commit(self) -> None:
        while self._waiting:
            async with self._lock:
                self._take()
                try:
                    await asyncio.get_running_loop().run_in_executor(self._thread, self._write)
                except OSError as exc:
                    self._refuse(exc)
                else:
                    self._keep()
                finally:
                    self._forget_work("it was not written")

    def _take(self) -> None:
        """Moves the next group into work: everything, up to the size of a segment."""
        size = count = 0
        for count, waiting in enumerate(self._waiting, 1):  # noqa: B007 - how many is what is asked
            size += len(waiting.frame)
            if size >= SEGMENT_BYTES:
                break
        self._in_work, self._waiting = self._waiting[:count], self._waiting[count:]

    def _write(self) -> None:
        """In the thread. Raises OSError."""
        if self._open is None:
            self._open = self._slot.new_segment()
        with metrics.SPOOL_COMMIT_SECONDS.time():
            self._open.append([w.frame for w in self._in_work])

    def _refuse(self, exc: OSError) -> None:
        """The group is not kept. After a failed sync nobody knows what a file holds: the next group begins another."""
        metrics.SPOOL_REFUSED.labels("disk").inc(len(self._in_work))
        self._forget_work(f"the disk refuses: {exc.strerror or exc}")
        self._close_segment()

    def _keep(self) -> None:
        """The group is on disk: counts it and tells who waits."""
        assert self._open is not None
        segment = self._open.segment
        segment.records += len(self._in_work)
        segment.oldest_ms = segment.oldest_ms or self._in_work[0].at_ms
        metrics.SPOOLED.inc(len(self._in_work))
        for waiting in self._in_work:
            if not waiting.done.done():
                waiting.done.set_result(None)
        self._forget_work("")
        if segment.size_bytes >= SEGMENT_BYTES:
            self._close_segment()

    def _forget_work(self, reason: str) -> None:
        """Ends the group; whoever still waits is refused for `reason`."""
        for waiting in self._in_work:
            if not waiting.done.done():
                waiting.done.set_exception(TransientError("spool", reason))
        self._waiting_bytes -= sum(len(w.frame) for w in self._in_work)
        self._in_work = []

    def _close_segment(self) -> None:
        opened, self._open = self._open, None
        if opened is None:
            return
        if opened.segment.records:
            opened.close()
            self._slot.segments.append(opened.segment)
        else:
            opened.discard()
