"""The beat of the webhook goes on whatever the database answers."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from pipeline.lifecycle import background
from pipeline.postgres import Pool
from producers.beat import keep_beat


class Database:
    """Refuses twice, once as if it were away."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.answered = asyncio.Event()

    async def execute(self, _: str, served_for_s: float) -> None:
        self.asked.append(served_for_s)
        match len(self.asked):
            case 1:
                raise RuntimeError("no such table")
            case 2:
                raise ConnectionRefusedError("away")
            case _:
                self.answered.set()


async def test_it_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    database = Database()
    async with background(keep_beat(cast("Pool", cast("Any", database)), every_s=0)):
        await asyncio.wait_for(database.answered.wait(), 10)
    assert database.asked == sorted(database.asked)
    assert [r.message for r in caplog.records] == ["beat.failed"]
