"""A consumer that signals itself when it first reaches a stage of a batch: `python -m tests.faults.staged STAGE SIGNAL…`.

Everything else is `wapipe run messages`. The stages are hooked where the code meets its libraries or its contract, so
that they hold whatever the runner looks like inside.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple

import aiokafka

from consumers.messages import Messages
from pipeline import books, facts
from pipeline.broker import Publisher
from pipeline.cli.process import run
from pipeline.fetch import Batcher

_NOTICED_S = 0.05  # the event loop has looked at its signals: the process stops while it is in the stage


class Seam(NamedTuple):
    """A function, and whether the stage is before it or after it."""

    owner: Any
    name: str
    before: bool = True


STAGES: dict[str, Seam] = {
    "fetch": Seam(Batcher, "next", before=False),
    "decode": Seam(Messages, "decode"),
    "prepare": Seam(Messages, "prepare"),
    "copy": Seam(facts, "copy_rows"),
    "lock": Seam(facts, "copy_rows", before=False),
    "merge": Seam(books, "lock", before=False),
    "dead letter": Seam(Publisher, "publish"),
    "dead letter sent": Seam(Publisher, "publish", before=False),
    "books moved": Seam(books, "advance", before=False),
    "offsets": Seam(aiokafka.AIOKafkaConsumer, "commit"),
}


def main() -> None:
    """Hooks the stage, and runs the consumer."""
    _, stage, *names = sys.argv
    numbers = [signal.Signals[name] for name in names]
    reached = False

    def hit(answer: Any = None) -> bool:
        nonlocal reached
        if reached or answer == []:  # a fetch that found nothing is no stage
            return False
        reached = True
        for number in numbers:
            os.kill(os.getpid(), number)
        return True

    _hook(STAGES[stage], hit)
    run(["messages"])


def _hook(seam: Seam, hit: Callable[..., bool]) -> None:
    original = getattr(seam.owner, seam.name)

    @wraps(original)
    async def stop_there(*args: Any, **options: Any) -> Any:
        if seam.before and hit():
            await asyncio.sleep(_NOTICED_S)
        answer = await original(*args, **options)
        if not seam.before and hit(answer):
            await asyncio.sleep(_NOTICED_S)
        return answer

    @wraps(original)
    def call(*args: Any, **options: Any) -> Any:
        hit()
        return original(*args, **options)

    setattr(seam.owner, seam.name, stop_there if inspect.iscoroutinefunction(original) else call)


if __name__ == "__main__":
    main()
