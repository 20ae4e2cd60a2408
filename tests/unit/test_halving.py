"""Halving finds exactly the bad ones, keeps the good ones, and does not try much more than it must."""

from __future__ import annotations

from math import log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import PoisonError, TransientError
from pipeline.halving import find_refused


class Table:
    """Takes good items, all or none of an attempt."""

    def __init__(self, bad: set[int]) -> None:
        self.bad, self.stored, self.attempts = bad, list[int](), 0

    async def attempt(self, indexes: list[int]) -> None:
        self.attempts += 1
        found = self.bad.intersection(indexes)
        if found:
            raise PoisonError("bad", f"{min(found)}")
        self.stored += indexes


@given(st.integers(0, 200).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, max(0, n - 1)), max_size=n))))
async def test_exactly_the_bad_ones(case: tuple[int, set[int]]) -> None:
    count, bad = case
    table = Table(bad)
    refused = await find_refused(count, table.attempt)
    assert [r.index for r in refused] == sorted(bad)
    assert all(r.error.detail == str(r.index) for r in refused)
    assert sorted(table.stored) == [i for i in range(count) if i not in bad]


async def test_one_among_a_thousand_takes_two_attempts_a_halving() -> None:
    table = Table({617})
    [refused] = await find_refused(1000, table.attempt)
    assert refused.halvings <= 1 + log2(1000)
    assert table.attempts == 1 + 2 * refused.halvings


async def test_an_outage_is_nobodys_fault() -> None:
    async def away(_indexes: list[int]) -> None:
        raise TransientError("postgres", "gone")

    with pytest.raises(TransientError):
        await find_refused(10, away)
