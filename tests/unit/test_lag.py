"""When the oldest unread record of a partition arrived, from what passes by anyway."""

from __future__ import annotations

import pytest

from pipeline.lag import _MAX_LOOKS, Arrivals


@pytest.fixture
def arrivals() -> Arrivals:
    """Looked at once, at second 100: ten records, all stored."""
    arrivals = Arrivals()
    arrivals.seen(end=10, at_s=100, position=10)
    return arrivals


def test_nothing_unread_has_no_age(arrivals: Arrivals) -> None:
    assert arrivals.arrived_at(10) is None
    assert Arrivals().arrived_at(0) is None


def test_a_record_that_came_while_we_looked_is_as_old_as_the_look_that_saw_it(arrivals: Arrivals) -> None:
    arrivals.fetched(3, 20)  # its predecessors are of an hour ago; that says nothing about it
    arrivals.seen(end=10, at_s=3700, position=10)
    arrivals.seen(end=12, at_s=3702, position=10)
    arrivals.seen(end=15, at_s=3704, position=10)
    assert arrivals.arrived_at(10) == 3702
    assert arrivals.arrived_at(12) == 3704


def test_a_fetched_record_has_its_own_time(arrivals: Arrivals) -> None:
    arrivals.seen(end=30, at_s=102, position=10)
    arrivals.fetched(10, 101.5)
    arrivals.fetched(20, 101.7)
    assert arrivals.arrived_at(10) == 101.5
    assert arrivals.arrived_at(20) == 101.7
    assert arrivals.arrived_at(15) == 101.7  # offsets without a record: the next one is the oldest unread


def test_a_backlog_from_before_the_first_look_is_as_old_as_what_was_fetched_of_it() -> None:
    arrivals = Arrivals()
    arrivals.seen(end=1000, at_s=100_000, position=0)
    assert arrivals.arrived_at(0) == 100_000  # all that is known: it was there when we came
    arrivals.fetched(0, 5)
    assert arrivals.arrived_at(0) == 5
    assert arrivals.arrived_at(500) == 5  # stored up to 500, the rest not fetched yet: not older than the one before
    arrivals.seen(end=1200, at_s=100_002, position=500)
    assert arrivals.arrived_at(500) == 5
    assert arrivals.arrived_at(1000) == 100_002


def test_a_second_fetch_replaces_the_first(arrivals: Arrivals) -> None:
    arrivals.fetched(10, 50)
    arrivals.fetched(20, 60)
    arrivals.fetched(10, 50)  # rewound
    assert arrivals.arrived_at(10) == 50
    assert arrivals.arrived_at(11) is None
    arrivals.seen(end=30, at_s=102, position=10)
    assert arrivals.arrived_at(11) == 102


def test_a_long_outage_is_remembered_coarsely_and_in_bounds() -> None:
    arrivals = Arrivals()
    arrivals.seen(end=0, at_s=0, position=0)
    looks = 20 * _MAX_LOOKS
    for number in range(1, looks):
        arrivals.seen(end=number, at_s=float(number), position=0)
    assert len(arrivals._looks) <= _MAX_LOOKS
    assert arrivals.end == looks - 1
    for position in range(0, looks - 1, 997):
        arrived = arrivals.arrived_at(position)
        assert arrived is not None
        assert 0 <= arrived - position <= 200  # late by at most a hundredth of the outage


def test_what_is_stored_is_forgotten(arrivals: Arrivals) -> None:
    for number in range(100):
        arrivals.fetched(10 + number, 100 + number)
        arrivals.seen(end=11 + number, at_s=100 + number, position=10 + number)
    assert len(arrivals._looks) <= 2
    assert len(arrivals._fetched) <= 2
