"""A send that waits for the broker, and its deadline: pipeline.broker keeps one timer for all of them."""

from __future__ import annotations

import asyncio


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
