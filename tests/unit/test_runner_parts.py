"""The runner's parts without a broker: batches, floods, pauses, gaps, static ids."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from unittest.mock import AsyncMock

import pytest
from aiokafka import TopicPartition

from pipeline import metrics
from pipeline.batch import Partition
from pipeline.decode import Span
from pipeline.errors import ConfigError
from pipeline.fetch import Batcher
from pipeline.flood import FloodGuard
from pipeline.gaps import Gaps, Step
from pipeline.membership import StaticId
from pipeline.pause import Pauses
from pipeline.positions import Positions
from pipeline.settings import load_settings

KIB = 1024
A, B = Partition("t", 0), Partition("t", 1)
TP = TopicPartition("t", 0)


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


# ---------------------------------------------------------------- batches
@dataclass(frozen=True)
class Sized:
    serialized_value_size: int


class Buffer:
    """aiokafka's buffer: gives what is there; what arrives later comes while somebody waits for it."""

    def __init__(self, clock: Clock, *sizes: int, later: Iterable[tuple[float, int]] = ()) -> None:
        self._clock, self._sizes, self._later = clock, list(sizes), iter(later)

    async def getmany(self, *, timeout_ms: float, max_records: int) -> dict[str, list[Sized]]:
        if not self._sizes:
            wait_s, size = next(self._later, (timeout_ms / 1000, 0))
            if wait_s >= timeout_ms / 1000:
                self._clock.now += timeout_ms / 1000
                return {}
            self._clock.now += wait_s
            self._sizes.append(size)
        given, self._sizes = self._sizes[:max_records], self._sizes[max_records:]
        return {"p": [Sized(size) for size in given]}


async def test_a_batch_has_so_many_rows_at_most(clock: Clock) -> None:
    batcher, buffer = Batcher(30, 10**9, 0, clock=clock), Buffer(clock, *[100] * 70)
    assert [len(await batcher.next(buffer)) for _ in range(4)] == [30, 30, 10, 0]


async def test_a_batch_is_closed_by_its_bytes(clock: Clock) -> None:
    batcher, buffer = Batcher(2000, 1000 * KIB, 0, clock=clock), Buffer(clock, *[300 * KIB] * 10)
    assert [len(await batcher.next(buffer)) for _ in range(3)] == [4, 4, 2]


async def test_a_record_beyond_the_limit_is_a_batch_of_its_own(clock: Clock) -> None:
    batcher = Batcher(2000, 1000 * KIB, 0, clock=clock)
    buffer = Buffer(clock, *[16_000 * KIB] * 3)
    assert [len(await batcher.next(buffer)) for _ in range(4)] == [1, 1, 1, 0]


async def test_large_records_behind_small_ones_are_taken_one_at_a_time(clock: Clock) -> None:
    """What is taken at once depends on the largest record met lately, so the limit is passed by one answer at most."""
    batcher = Batcher(2000, 1000 * KIB, 0, clock=clock)
    buffer = Buffer(clock, *[100] * 500, *[900 * KIB] * 8)
    sizes = [sum(r.serialized_value_size for r in await batcher.next(buffer)) for _ in range(6)]
    assert max(sizes[1:]) <= 2 * 900 * KIB


async def test_tombstones_have_no_size(clock: Clock) -> None:
    batcher, buffer = Batcher(10, 100, 0, clock=clock), Buffer(clock, *[-1] * 5)
    assert len(await batcher.next(buffer)) == 5


async def test_a_batch_waits_for_company_until_it_is_old_enough(clock: Clock) -> None:
    arriving = [(0.01, 1), (0.02, 1), (0.03, 1), (0.5, 1)]
    batcher, buffer = Batcher(2000, 10**6, 0.1, clock=clock), Buffer(clock, 1, later=arriving)
    begun = clock.now
    assert len(await batcher.next(buffer)) == 4
    assert clock.now - begun == pytest.approx(0.1)


async def test_half_a_batch_waits_for_nothing(clock: Clock) -> None:
    begun, buffer = clock.now, Buffer(clock, 1, later=[(0.01, 1)] * 3)
    batcher = Batcher(6, 10**6, 0.1, clock=clock)
    assert len(await batcher.next(buffer)) == 3
    assert clock.now == pytest.approx(begun + 0.02)


async def test_without_an_age_what_is_there_is_taken_at_once(clock: Clock) -> None:
    batcher, buffer = Batcher(2000, 10**6, 0, clock=clock), Buffer(clock, 1, 1, later=[(0.001, 1)])
    begun = clock.now
    assert (len(await batcher.next(buffer)), clock.now) == (2, begun)


# ---------------------------------------------------------------- floods
@pytest.fixture
def guard(clock: Clock) -> FloodGuard:
    settings = load_settings(
        {"WAPIPE_FLOOD_RECORDS": "100", "WAPIPE_FLOOD_PERCENT": "20", "WAPIPE_FLOOD_WINDOW_S": "60",
         "WAPIPE_FLOOD_PAUSE_S": "8"}
    )  # fmt: skip
    return FloodGuard("floods", settings.consumer, clock=clock)


def test_a_flood_holds_its_partition_and_no_other(guard: FloodGuard, clock: Clock) -> None:
    guard.stored(A, 100, 99)
    assert guard.held() == set()
    guard.stored(B, 5000, 99)
    guard.stored(A, 1, 1)
    assert (guard.held(), guard.flooded) == ({A}, 1)
    clock.now += 1
    assert (guard.held(), guard.flooded) == (set(), 1)


def test_few_bad_ones_among_many_are_no_flood(guard: FloodGuard) -> None:
    for _ in range(100):
        guard.stored(A, 1000, 199)
    assert guard.flooded == 0


def test_what_is_older_than_the_window_does_not_count(guard: FloodGuard, clock: Clock) -> None:
    for _ in range(10):
        guard.stored(A, 90, 90)
        clock.now += 61
    assert guard.flooded == 0


def test_pauses_grow_to_their_limit_and_bad_probes_pass(guard: FloodGuard, clock: Clock) -> None:
    guard.stored(A, 100, 100)
    pauses = []
    for _ in range(5):
        begun = clock.now
        while A in guard.held():
            clock.now += 0.5
        pauses.append(clock.now - begun)
        guard.fetched([A, B])
        assert guard.held() == {A}  # nothing follows the probe
        guard.stored(A, 50, 50)
    assert pauses == [1, 2, 4, 8, 8]


def test_a_good_probe_ends_the_flood(guard: FloodGuard, clock: Clock) -> None:
    guard.stored(A, 100, 100)
    clock.now += 1
    guard.fetched([A])
    guard.stored(A, 100, 19)
    assert (guard.held(), guard.flooded) == (set(), 0)
    guard.stored(A, 10, 10)  # counts from the beginning
    assert guard.flooded == 0


def test_what_was_in_flight_at_the_alarm_is_no_probe(guard: FloodGuard, clock: Clock) -> None:
    guard.stored(A, 100, 100)
    guard.stored(A, 100, 0)
    assert guard.held() == {A}
    guard.stored(A, 100, 100)
    clock.now += 1
    assert guard.held() == set()


def test_a_probe_that_was_given_up_is_repeated_after_its_pause(guard: FloodGuard, clock: Clock) -> None:
    guard.stored(A, 100, 100)
    clock.now += 1
    guard.fetched([A])
    guard.given_up()
    assert guard.held() == {A}
    clock.now += 1
    assert guard.held() == set()


def test_a_new_assignment_knows_no_flood(guard: FloodGuard) -> None:
    guard.stored(A, 100, 100)
    guard.forget()
    assert (guard.held(), guard.flooded) == (set(), 0)


def test_the_guard_can_be_switched_off(clock: Clock) -> None:
    guard = FloodGuard("floods", load_settings({"WAPIPE_FLOOD_PAUSE_S": "0"}).consumer, clock=clock)
    guard.stored(A, 10_000, 10_000)
    assert guard.flooded == 0


# ---------------------------------------------------------------- pauses
def paused(consumer: str) -> set[str]:
    return {
        s.labels["reason"] for m in metrics.PAUSED.collect() for s in m.samples
        if s.labels["consumer"] == consumer and s.value
    }  # fmt: skip


def test_two_stages_wait_each_for_its_own() -> None:
    pauses = Pauses("stages")
    pauses.hold("write", "postgres")
    pauses.hold("prepare", "postgres")
    pauses.release("prepare")
    assert (bool(pauses), pauses.answer(), paused("stages")) == (True, "postgres_away", {"postgres"})
    pauses.release("write")
    assert (bool(pauses), pauses.answer(), paused("stages")) == (False, None, set())


def test_a_stage_that_waits_for_something_else_leaves_the_first_reason() -> None:
    pauses = Pauses("reasons")
    pauses.hold("write", "postgres")
    pauses.hold("write", "kafka")
    assert paused("reasons") == {"kafka"}
    pauses.hold("flood", "flood")
    assert (pauses.answer(), paused("reasons")) == ("kafka_away", {"kafka", "flood"})
    pauses.release("write")
    assert (pauses.answer(), paused("reasons")) == ("dead_letter_flood", {"flood"})
    pauses.release("write")
    pauses.release("flood")
    assert paused("reasons") == set()


def test_downloads_that_wait_stop_no_record() -> None:
    pauses = Pauses("downloads")
    pauses.hold("store", "s3")
    pauses.hold("download", "waha")
    assert (pauses.answer(), pauses.stops_reading) == ("s3_away", False)
    pauses.hold("write", "postgres")
    pauses.release("store")
    assert (pauses.answer(), pauses.stops_reading) == ("waha_away", True)
    for stage in ("write", "download"):
        pauses.release(stage)
    assert paused("downloads") == set()


# ---------------------------------------------------------------- gaps
class Client:
    """As much of aiokafka's consumer as positions need."""

    def __init__(self) -> None:
        self.at = {TP: 100}

    def assignment(self) -> frozenset[TopicPartition]:
        return frozenset(self.at)

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self.at[tp] = offset

    async def position(self, tp: TopicPartition) -> int:
        return self.at[tp]

    async def beginning_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(tps, 0)

    async def end_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(tps, 1000)


@pytest.fixture
async def client() -> Client:
    return Client()


@pytest.fixture
async def positions(client: Client) -> Positions:
    positions = Positions("gaps", "")
    await positions.align(client, AsyncMock(return_value={A: 100}))
    return positions


@pytest.fixture
def gaps(positions: Positions, clock: Clock) -> Gaps:
    return Gaps("gaps", positions, AsyncMock(), clock)


async def test_what_goes_on_is_no_step(gaps: Gaps, client: Client) -> None:
    assert await gaps.find(client, {TP: Span(100, 110)}) == {}


async def test_a_step_is_believed_when_it_is_taken_twice(gaps: Gaps, client: Client) -> None:
    steps = await gaps.find(client, {TP: Span(105, 110)})
    assert steps == {TP: Step(100, 105)}
    client.at[TP] = 111
    assert not gaps.proven(client, steps)
    assert client.at[TP] == 100  # sent back
    assert gaps.proven(client, await gaps.find(client, {TP: Span(105, 110)}))
    assert not gaps.proven(client, await gaps.find(client, {TP: Span(105, 110)}))  # each proof holds once


async def test_another_step_is_doubted_anew(gaps: Gaps, client: Client) -> None:
    assert not gaps.proven(client, {TP: Step(100, 105)})
    assert not gaps.proven(client, {TP: Step(100, 120)})
    assert gaps.proven(client, {TP: Step(100, 120)})


async def test_an_error_in_between_proves_nothing(gaps: Gaps, client: Client) -> None:
    assert not gaps.proven(client, {TP: Step(100, 105)})
    gaps.forget()
    assert not gaps.proven(client, {TP: Step(100, 105)})


async def test_a_partition_that_is_not_ours_is_never_believed(gaps: Gaps, client: Client) -> None:
    for _ in range(3):
        steps = await gaps.find(client, {TopicPartition("t", 7): Span(0, 1)})
        assert not gaps.proven(client, steps)


async def test_a_silent_step_is_found_at_the_next_look(gaps: Gaps, client: Client, clock: Clock) -> None:
    client.at[TP] = 140
    assert await gaps.find(client, {}) == {}
    clock.now += 2
    assert await gaps.find(client, {}) == {TP: Step(100, 140)}


# ---------------------------------------------------------------- static ids
def static_id(clock: Clock) -> StaticId:
    return StaticId("messages-1", 30, clock=clock)


def fight(clock: Clock, one: StaticId, two: StaticId) -> None:
    """Each throws the other out with its next heartbeat."""
    for n in range(10):
        for claim in (one, two):
            claim.joined(f"{id(claim)}-{n}")
            clock.now += 3


def test_rebalances_and_expired_sessions_are_no_theft(clock: Clock) -> None:
    claim = static_id(clock)
    for member, after_s in [("a", 0), ("a", 1), ("a", 2), ("b", 31), ("c", 40), ("c", 1)]:
        clock.now += after_s
        claim.joined(member)
        assert not claim.taken


def test_of_two_newcomers_the_first_to_be_thrown_out_goes(clock: Clock) -> None:
    one, two = static_id(clock), static_id(clock)
    with pytest.raises(ConfigError, match="WAPIPE_INSTANCE_ID=messages-1 is used by another live process"):
        fight(clock, one, two)
    assert one.taken
    assert two.taken


def test_who_was_there_first_stays_and_says_so(clock: Clock) -> None:
    first, newcomer = static_id(clock), static_id(clock)
    first.joined("alone")
    clock.now += 3600
    for _ in range(5):  # a supervisor that starts the newcomer again and again does not drive the first one out
        with pytest.raises(ConfigError):
            fight(clock, newcomer, first)
        newcomer = static_id(clock)
    assert first.taken
    clock.now += 30
    assert not first.taken


def test_without_an_id_nothing_is_watched(clock: Clock) -> None:
    claim = StaticId(None, 30, clock=clock)
    for n in range(10):
        claim.joined(f"m{n}")
    assert not claim.taken
