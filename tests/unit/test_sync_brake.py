"""How many live records may wait before fetching does: what comes in half a second, and never so few that they say nothing."""

from __future__ import annotations

import pytest

from pipeline.sync.brake import LiveRate


class Clock:
    now = 50.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("per_s", "records"), [(0, 200), (10, 200), (400, 200), (3000, 1500)])
def test_half_a_second_of_live_traffic(per_s: int, records: int) -> None:
    clock = Clock()
    rate = LiveRate(clock)
    for n in range(60):
        rate.ends_at(1_000_000 + n * per_s)
        clock.now += 1
    assert rate.per_s == pytest.approx(per_s, rel=0.01)
    assert rate.most_records(0.5) == pytest.approx(records, rel=0.01)


def test_what_was_there_before_is_no_traffic_and_a_topic_made_anew_is_none() -> None:
    clock = Clock()
    rate = LiveRate(clock)
    rate.ends_at(1_000_000)
    assert rate.per_s == 0
    clock.now += 1
    rate.ends_at(0)
    assert rate.per_s == 0
    rate.ends_at(7)  # at the same moment: no time has passed in which they could have come
    assert rate.per_s == 0


def test_a_burst_is_taken_for_no_more_than_a_part_of_what_is_usual() -> None:
    clock = Clock()
    rate = LiveRate(clock)
    rate.ends_at(0)
    clock.now += 1
    rate.ends_at(10_000)
    assert rate.per_s == pytest.approx(3000)
