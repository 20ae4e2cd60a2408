"""Draining: closed segments into the topics, oldest first, many sends in flight, each file removed when all is in.

Stops with TransientError whenever the broker does not acknowledge; the next call goes on where this one stopped.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

from pipeline import metrics
from pipeline.errors import PoisonError
from pipeline.spool.record import Kind, Piece, Record, decode
from pipeline.spool.segment import Content, Segment
from pipeline.spool.slot import Slot

log = logging.getLogger("wapipe.spool")

Publish = Callable[[Record], Awaitable[None]]  # raises TransientError, or PoisonError for what no broker ever takes
Done = Callable[[int], None]  # is told how many records more are done with

# Half of the producer's batch: a window fits into one batch of a partition, so records of a chat keep their order.
_WINDOW_BYTES = 128 * 1024
_WINDOW_RECORDS = 500


async def drain(slot: Slot, publish: Publish, done: Done) -> None:
    """Sends all closed segments of `slot`. Raises TransientError, with everything acknowledged until then remembered.

    The first record goes alone: it asks whether the broker is there. A record that the broker refuses for ever, or
    that is damaged, holds nothing up: its segment is set aside when the rest of it is drained.
    """
    first = True
    while slot.segments:
        segment = slot.segments[0]
        content = await asyncio.to_thread(slot.load, segment)
        run = _Run(slot, segment, content, publish, done)
        for window in _windows(content.of(Kind.GOOD), first=first):
            await run.send(window)
            first = False
        await asyncio.to_thread(slot.finish, segment)
        slot.segments.popleft()


def _windows(pieces: Sequence[Piece], *, first: bool) -> Iterator[Sequence[Piece]]:
    start = 0
    while start < len(pieces):
        most = 1 if first and start == 0 else _WINDOW_RECORDS
        end = start + 1
        while (
            end < len(pieces) and end - start < most and pieces[end].end - pieces[start].start <= _WINDOW_BYTES
        ):  # fmt: skip
            end += 1
        yield pieces[start:end]
        start = end


@dataclass(frozen=True, slots=True)
class _Run:
    """One segment being drained."""

    slot: Slot
    segment: Segment
    content: Content
    publish: Publish
    done: Done

    async def send(self, window: Sequence[Piece]) -> None:
        """All of a window at once; remembers what is acknowledged up to the first that is not, and raises its error."""
        results = await asyncio.gather(*(self._one(piece) for piece in window), return_exceptions=True)
        errors = ((n, result) for n, result in enumerate(results) if isinstance(result, BaseException))
        count, error = next(errors, (len(results), None))
        if count:
            self.segment.position = window[count - 1].end
            self.segment.records -= count
            await asyncio.to_thread(self.slot.save_position, self.segment)
            self.done(count)
        if error is not None:
            raise error

    async def _one(self, piece: Piece) -> None:
        """Returns when this record is done with: acknowledged, or noted as refused."""
        segment = self.segment
        try:
            await self.publish(decode(self.content.data, piece))
        except PoisonError as exc:
            # "refused" wins: such a segment can be sent again when the broker takes larger records
            segment.flaw = "refused" if exc.reason != "unreadable" else segment.flaw or "damaged"
            metrics.SPOOL_RECORDS_REFUSED.inc()
            place = {"slot": segment.path.parent.name, "segment": segment.path.name, "start": piece.start}
            log.error("spool.record_refused", extra=place | {"bytes": piece.end - piece.start, "reason": exc.reason})
        else:
            metrics.DRAINED.inc()
