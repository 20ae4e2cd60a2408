"""Redrives every open letter of `messages` and kills itself (SIGKILL) once the broker has acknowledged so many."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

from pipeline.broker import Publisher
from pipeline.dlq.box import open_box
from pipeline.dlq.decide import Decision, redrive
from pipeline.dlq.letters import Selection
from pipeline.postgres import open_pool
from pipeline.settings import load_settings


class Deadly(Publisher):
    """Acknowledged records before the end."""

    left = 0

    async def publish(self, *args: Any, **options: Any) -> None:
        """As Publisher's."""
        await super().publish(*args, **options)
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


async def main(acknowledged: int) -> None:
    """Does not return when there are as many letters."""
    settings = load_settings()
    pool = await open_pool(settings.database, name="killed")
    deadly = Deadly(settings.kafka)
    deadly.left = acknowledged
    async with deadly as publisher:
        assert await publisher.wait_ready(30)
        box = open_box("messages", settings.kafka, pool)
        await redrive(box, publisher, await box.read(Selection()), Decision("redriven", "all"))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
