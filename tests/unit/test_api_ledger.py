"""`GET /api/ledger`: shared by all who ask, kept a moment, a 503 when a side of the books is away."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from pipeline.api import ledger as module
from pipeline.api import make_app
from pipeline.errors import TransientError
from pipeline.ledger import Ledger, Line
from tests.unit.test_api_http import client, is_problem, settings

POOL: Any = object()  # read_ledger is replaced: nobody looks at it


class Reader:
    """In the place of read_ledger: counts, waits until told, fails when told."""

    def __init__(self) -> None:
        self.asked = 0
        self.go = asyncio.Event()
        self.go.set()
        self.error: Exception | None = None

    async def __call__(self, _settings: Any, _pool: Any) -> Ledger:
        self.asked += 1
        number = self.asked
        await self.go.wait()
        if self.error is not None:
            raise self.error
        lines = [Line("messages", records=5, written=3, skipped=2, difference=1, skipped_events={"message.ack": 2})]
        return Ledger(received=number, fetched=0, parked=1, unread=0, lines=lines)


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Reader:
    found = Reader()
    monkeypatch.setattr(module, "read_ledger", found)
    return found


async def test_it_says_what_the_command_says(reader: Reader) -> None:
    async with client(make_app(settings(), POOL)) as http:
        answer = await http.get("/api/ledger")
    assert answer.status_code == 200
    found = answer.json()
    as_of = datetime.fromisoformat(found.pop("as_of"))
    assert (datetime.now(UTC) - as_of).total_seconds() < 60
    assert found == (await reader(None, None)).as_dict() | {"received": 1}
    assert (found["difference"], found["consumers"][0]["skipped_events"]) == (1, {"message.ack": 2})


async def test_many_who_ask_at_once_cost_one_reading(reader: Reader) -> None:
    reader.go.clear()
    desk = module.LedgerDesk(settings())
    asking = [asyncio.create_task(desk.read(POOL)) for _ in range(50)]
    await asyncio.sleep(0)
    asking[0].cancel()  # who goes away takes nobody along
    await asyncio.sleep(0)
    reader.go.set()
    answers = await asyncio.gather(*asking[1:])
    assert {books.received for _, books in answers} == {1}
    assert reader.asked == 1


async def test_an_answer_is_kept_for_a_moment(reader: Reader) -> None:
    now = 100.0
    desk = module.LedgerDesk(settings(), clock=lambda: now)
    received = []
    for now in (100.0, 104.9, 105.1, 105.2):  # noqa: B007 - the desk's clock reads it
        received.append((await desk.read(POOL))[1].received)
    assert received == [1, 1, 2, 2]


async def test_a_failure_is_a_503_and_is_not_kept(reader: Reader) -> None:
    async with client(make_app(settings(), POOL)) as http:
        reader.error = TransientError("kafka", "away")
        answer = await http.get("/api/ledger")
        assert "kafka" in is_problem(answer, 503, "dependency-away")
        assert answer.headers["retry-after"]
        reader.error = None
        assert (await http.get("/api/ledger")).status_code == 200


async def test_a_broker_that_hangs_is_given_up(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LONGEST_S", 0.01)
    reader.go.clear()
    async with client(make_app(settings(), POOL)) as http:
        is_problem(await http.get("/api/ledger"), 503, "dependency-away")


async def test_without_a_pool_it_is_away(reader: Reader) -> None:
    async with client(make_app(settings())) as http:
        assert "postgres" in is_problem(await http.get("/api/ledger"), 503, "dependency-away")
    assert reader.asked == 0
