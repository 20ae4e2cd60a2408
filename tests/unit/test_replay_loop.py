"""The loop of a replay over scripted sources: ends, stops, outages, the order of its two stages."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from pipeline.batch import Batch, Event, Partition
from pipeline.errors import FatalError, TransientError
from pipeline.inflight import WRITERS, Turn
from pipeline.replay.loop import Loop, Runs, Store
from pipeline.replay.pace import Pace
from pipeline.replay.selection import FILTERED, Selection
from pipeline.replay.source import Source, Stretch
from pipeline.replay.spec import Spec
from pipeline.write import MisalignedError

P = Partition("waha.message", 0)


@dataclass
class Record:
    offset: int
    headers: list[tuple[str, bytes]] = field(default_factory=lambda: [("event", b"message"), ("session", b"s")])
    topic: str = P.topic
    partition: int = 0
    timestamp: int = 1
    key: bytes = b"s|c@c.us"
    value: bytes = b"{}"


def records(first: int, count: int) -> list[Any]:
    return [Record(o) for o in range(first, first + count)]


class Scripted:
    """A source that answers these, one after the other; an error is raised instead."""

    def __init__(self, *answers: dict[Partition, Stretch] | Exception) -> None:
        self._answers = list(answers)

    @property
    def finished(self) -> bool:
        return not self._answers

    async def read(self) -> dict[Partition, Stretch]:
        await asyncio.sleep(0)
        if isinstance(self._answers[0], Exception):
            raise cast(Exception, self._answers.pop(0))
        return cast(dict[Partition, Stretch], self._answers.pop(0))


class Offsets:
    """A consumer whose facts are offsets."""

    name = "offsets"
    topics = ()
    events = frozenset({"message"})

    def decode(self, event: Event) -> int:
        return event.place.offset


class Bench:
    def __init__(
        self, *answers: dict[Partition, Stretch] | Exception, store: Store[int] | None = None, **more: Any
    ) -> None:
        self.stored: list[list[int]] = []
        self.batches: list[Batch[int]] = []
        self.runs: list[Runs] = []
        self.stop = asyncio.Event()
        self.loop: Loop[int] = Loop(
            cast(Any, Offsets()), cast(Source, Scripted(*answers)), self.stop, prepare=self._prepare,
            store=store or self.keep, **more,
        )  # fmt: skip

    async def _prepare(self, facts: list[int]) -> list[int]:
        return list(facts)

    async def keep(self, batch: Batch[int], runs: Runs, turn: Turn) -> None:
        await turn.come()
        self.stored.append(batch.prepared)
        self.batches.append(batch)
        self.runs.append(runs)


def stretch(first: int, count: int, following: int | None = None) -> dict[Partition, Stretch]:
    return {P: Stretch(records(first, count), first, first + count if following is None else following)}


async def test_everything_is_stored_in_order_and_offsets_without_records_are_passed() -> None:
    bench = Bench(stretch(5, 3), {}, stretch(8, 0, 12), stretch(12, 2))
    assert await bench.loop.run()
    assert bench.stored == [[5, 6, 7], [], [12, 13]]
    assert [(b.tallies[P].first, b.tallies[P].next, b.tallies[P].records) for b in bench.batches] == [
        (5, 8, 3), (8, 12, 0), (12, 14, 2),
    ]  # fmt: skip
    assert bench.loop.passed == 9


async def test_filtered_records_are_counted_and_the_others_remembered_as_runs() -> None:
    answer = stretch(0, 6)
    for offset in (1, 4):
        answer[P].records[offset].headers = [("event", b"message"), ("session", b"other")]
    bench = Bench(answer, selection=Selection(Spec("offsets", (), sessions=("s",))))
    assert await bench.loop.run()
    [batch] = bench.batches
    assert (batch.facts, batch.tallies[P].records, batch.tallies[P].skipped) == ([0, 2, 3, 5], 6, {FILTERED: 2})
    assert bench.runs == [{P: [(0, 1), (2, 4), (5, 6)]}]


async def test_the_next_batches_are_staged_while_one_is_stored_and_never_stored_before_it() -> None:
    gate, all_staged, log, staged = asyncio.Event(), asyncio.Event(), list[str](), list[int]()

    async def store(batch: Batch[int], _: Runs, turn: Turn) -> None:
        staged.append(batch.facts[0])
        if len(staged) == WRITERS:
            all_staged.set()
        await turn.come()
        log.append(f"begin {batch.facts[0]}")
        if batch.facts[0] == 0:
            await gate.wait()
        log.append(f"end {batch.facts[0]}")

    bench = Bench(stretch(0, 1), stretch(1, 1), stretch(2, 1), store=store)
    running = asyncio.create_task(bench.loop.run())
    await asyncio.wait_for(all_staged.wait(), 5)
    assert log == ["begin 0"]
    gate.set()
    assert await running
    assert log == ["begin 0", "end 0", "begin 1", "end 1", "begin 2", "end 2"]


async def test_a_stop_ends_between_two_batches() -> None:
    async def store(batch: Batch[int], runs: Runs, turn: Turn) -> None:
        await bench.keep(batch, runs, turn)
        bench.stop.set()

    bench = Bench(stretch(0, 2), stretch(2, 2), stretch(4, 2), stretch(6, 2), store=store)
    assert not await bench.loop.run()
    assert bench.stored[0] == [0, 1]
    assert bench.loop.passed == sum(map(len, bench.stored)) < 8


async def test_a_stop_that_comes_with_the_last_batch_is_too_late() -> None:
    async def store(batch: Batch[int], runs: Runs, turn: Turn) -> None:
        await bench.keep(batch, runs, turn)
        bench.stop.set()

    bench = Bench(stretch(0, 2), store=store)
    assert await bench.loop.run()


async def test_an_outage_is_waited_out_with_the_batch_kept() -> None:
    failures = [TransientError("postgres", "away"), TransientError("postgres", "away")]
    seen: list[set[str]] = []

    async def store(batch: Batch[int], runs: Runs, turn: Turn) -> None:
        seen.append(set(bench.loop.away))
        if failures:
            raise failures.pop()
        await bench.keep(batch, runs, turn)

    bench = Bench(TransientError("kafka", "away"), stretch(0, 2), store=store)
    assert await bench.loop.run()
    assert bench.stored == [[0, 1]]
    assert seen == [set(), {"postgres"}, {"postgres"}]
    assert bench.loop.away == set()


async def test_an_outage_can_be_stopped() -> None:
    async def store(_batch: Batch[int], _runs: Runs, _turn: Turn) -> None:
        bench.stop.set()
        raise TransientError("postgres", "away")

    bench = Bench(stretch(0, 2), stretch(2, 2), store=store)
    assert not await bench.loop.run()
    assert bench.loop.passed == 0


async def test_somebody_else_at_work_and_a_bug_end_it_loudly() -> None:
    async def misaligned(_batch: Batch[int], _runs: Runs, _turn: Turn) -> None:
        raise MisalignedError({P: 7})

    with pytest.raises(FatalError, match="another process"):
        await Bench(stretch(0, 2), stretch(2, 2), store=misaligned).loop.run()

    async def bug(_batch: Batch[int], _runs: Runs, _turn: Turn) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await Bench(stretch(0, 2), stretch(2, 2), store=bug).loop.run()


async def test_a_batch_that_is_not_stored_takes_those_behind_it_with_it() -> None:
    """However it ends: they are staged, and are told when their turn comes."""
    all_staged, staged = asyncio.Event(), list[int]()

    async def store(batch: Batch[int], runs: Runs, turn: Turn) -> None:
        if batch.facts[0] == 0:
            await asyncio.wait_for(all_staged.wait(), 5)
            raise ZeroDivisionError
        staged.append(batch.facts[0])
        if len(staged) == WRITERS - 1:
            all_staged.set()
        await bench.keep(batch, runs, turn)

    bench = Bench(*[stretch(2 * n, 2) for n in range(WRITERS)], store=store)
    with pytest.raises(ZeroDivisionError):
        await bench.loop.run()
    assert (bench.loop.passed, bench.stored) == (0, [])


async def test_the_rate_holds_back_what_the_filters_keep() -> None:
    now = 0.0
    pace = Pace(2.0, clock=lambda: now)
    bench = Bench(stretch(0, 2), pace=pace, selection=Selection(Spec("offsets", (), sessions=("nobody",))))
    assert await bench.loop.run()
    assert pace.delay_s(2) == 0, "filtered records took no tokens"
    bench = Bench(stretch(0, 2), pace=pace)
    running = asyncio.create_task(bench.loop.run())
    while pace._tokens > -2:  # noqa: ASYNC110
        await asyncio.sleep(0)
    bench.stop.set()
    assert not await running
    assert bench.stored == []


async def test_only_the_first_batches_after_a_death_are_screened() -> None:
    screened: list[list[int]] = []

    async def screen(chosen: Any, batch: Batch[int]) -> set[int]:
        screened.append([r.offset for _, r in chosen])
        batch.tallies[P].records += 1
        return {id(chosen[0][1])}

    first, count = WRITERS + 2, WRITERS + 4
    bench = Bench(*(stretch(2 * n, 2) for n in range(count)), screen=screen)
    assert await bench.loop.run()
    assert screened == [[2 * n, 2 * n + 1] for n in range(first)]
    assert bench.stored == [[2 * n + 1] if n < first else [2 * n, 2 * n + 1] for n in range(count)]
    assert [b.tallies[P].records for b in bench.batches] == [2] * count
