"""A send that waits for the broker, with its deadline, and many records in one: pipeline.broker's Publisher uses both."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from aiokafka.errors import MessageSizeTooLargeError

from pipeline.lanes import partition_of

Record = tuple[bytes, bytes, list[tuple[str, bytes]]]  # key, value, headers

_ALONE_BYTES = 64 * 1024  # a record as large is sent by itself, so that the broker can refuse it by itself


class Send:
    """Of the current task. It is cancelled at the deadline: a timer for each would cost more than the signature check.

    aiokafka allows it: what it holds of the record may still be delivered later.
    """

    __slots__ = ("_cancelled", "_others", "_task", "deadline")

    def __init__(self, deadline: float) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.deadline, self._task, self._cancelled = deadline, task, False
        self._others = task.cancelling()  # cancellations that are not ours

    def cancel(self) -> None:
        """Ends the wait, once."""
        if not self._cancelled:
            self._cancelled = True
            self._task.cancel()

    def is_late(self) -> bool:
        """True when the cancellation that was met is ours alone."""
        return self._cancelled and self._task.uncancel() <= self._others


async def hand_over(
    producer: Any, name: str, records: Sequence[Record], waiting: list[asyncio.Future[Any]]
) -> list[BaseException]:
    """Gives the records to aiokafka and puts what to wait for into `waiting`: one future a batch of its own making, not one a
    record. Answers what it refused. All go to the partition of the first one's key: a request to the broker for all of them.
    """
    refused: list[BaseException] = []
    if not records:
        return refused
    partition = partition_of(records[0][0], len(await producer.partitions_for(name)))
    now_ms, batch = time.time_ns() // 1_000_000, producer.create_batch()
    for key, value, headers in records:
        if len(value) >= _ALONE_BYTES:
            try:
                waiting.append(await producer.send(name, value, key=key, partition=partition, headers=headers))
            except MessageSizeTooLargeError as exc:
                refused.append(exc)
        elif batch.append(key=key, value=value, timestamp=now_ms, headers=headers) is None:  # full
            waiting.append(await producer.send_batch(batch, name, partition=partition))
            batch = producer.create_batch()
            batch.append(key=key, value=value, timestamp=now_ms, headers=headers)
    if batch.record_count():
        batch.close()
        waiting.append(await producer.send_batch(batch, name, partition=partition))
    return refused
