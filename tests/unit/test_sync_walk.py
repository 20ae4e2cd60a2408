"""The walk over a history, against the pages of the simulated WAHA with all their traps; no HTTP."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from pipeline.sync.walk import MIN_ROWS, Walk
from pipeline.waha.answers import Row
from producers.simulator.rest import Past, SimulatedSession, SimulatedWaha
from producers.simulator.rest.pages import Query, page

PAST = Past(engines=("NOWEB",), sessions=1, messages=600, chats=5, hidden=0.0)


def session_of(past: Past) -> SimulatedSession:
    return next(iter(SimulatedWaha(past).sessions.values()))


class Walked:
    """What a walk found and what it asked for."""

    def __init__(self, walk: Walk, session: SimulatedSession, rng: Random) -> None:
        self.ids: list[str] = []
        self.limits: list[int] = []
        while not walk.done:
            asked = walk.next_page()
            self.limits.append(asked.limit)
            query = Query(asked.limit, 0, asked.since_s, asked.until_s, descending=False)
            shown = [r.message for r in page(session.all, query, rng)]
            self.ids += [r.id for r in walk.take([Row(m.id, m.timestamp, b"") for m in shown], 0.1)]


def walked(past: Past, rows: int, seed: int = 5) -> tuple[Walked, SimulatedSession]:
    session = session_of(past)
    return Walked(Walk(0, past.end_s, rows, rows), session, Random(seed)), session


@pytest.mark.parametrize("rows", [10, 25, 100, 1000])
@pytest.mark.parametrize("hidden", [0.0, 0.1, 0.6, 0.95])
@pytest.mark.parametrize("same_second", [0, 77, 600])
def test_everything_is_found_once(rows: int, hidden: float, same_second: int) -> None:
    past = replace(PAST, hidden=hidden, same_second=same_second, seed=rows)
    found, session = walked(past, rows)
    assert sorted(found.ids) == sorted(session.truth())


@pytest.mark.parametrize("seed", range(20))
def test_whatever_the_order_within_a_second(seed: int) -> None:
    past = replace(PAST, hidden=0.2, days=0.01, seed=seed)  # 864 seconds: most of them hold several messages
    found, session = walked(past, 20, seed)
    assert sorted(found.ids) == sorted(session.truth())


def test_few_more_pages_than_there_must_be() -> None:
    past = replace(PAST, messages=3000)
    found, _ = walked(past, 100)
    assert len(found.limits) <= 1.15 * 3000 / 100


def test_an_empty_history_takes_two_pages() -> None:
    past = replace(PAST, messages=0)
    found, _ = walked(past, 100)
    assert (found.ids, found.limits) == ([], [100, 1000])


def test_a_walk_goes_on_where_another_one_stood() -> None:
    session = session_of(PAST)
    first = Walk(0, PAST.end_s, 50, 50)
    ids: set[str] = set()
    for _ in range(4):
        asked = first.next_page()
        shown = page(session.all, Query(asked.limit, 0, asked.since_s, asked.until_s, descending=False), Random(1))
        ids |= {r.id for r in first.take([Row(r.message.id, r.message.timestamp, b"") for r in shown], 0.1)}
    second = Walked(Walk(first.since_s, PAST.end_s, 50, 50), session, Random(2))
    assert ids | set(second.ids) == session.truth().keys()
    assert len(second.ids) < 600 - 150


def test_what_arrives_meanwhile_is_beyond_the_bound() -> None:
    session = session_of(PAST)
    walk = Walk(0, PAST.end_s - 86_400, 50, 50)
    found = Walked(walk, session, Random(1))
    assert sorted(found.ids) == sorted(m.id for m in session.truth().values() if m.timestamp <= PAST.end_s - 86_400)


def rows_at(first_s: int, count: int) -> list[Row]:
    return [Row(f"false_1@c.us_{first_s + n}", first_s + n, b"") for n in range(count)]


def test_slow_pages_get_smaller_and_grow_again() -> None:
    walk = Walk(0, 10_000, 100, 100)
    walk.take(rows_at(1, walk.next_page().limit), 9.0)
    assert walk.next_page().limit == 50
    walk.take(rows_at(100, 50), 9.0)
    walk.take(rows_at(200, walk.next_page().limit), 2.0)
    assert walk.next_page().limit == 25
    for n in range(4):
        walk.take(rows_at(1000 * (n + 1), walk.next_page().limit), 0.1)
    assert walk.next_page().limit == 100


def test_a_page_that_never_comes_is_asked_for_in_halves_down_to_the_least() -> None:
    walk = Walk(0, 10_000, 100, 100)
    sizes = [walk.next_page().limit]
    while walk.too_slow():
        sizes.append(walk.next_page().limit)
    assert sizes == [100, 50, 25, 12, MIN_ROWS]


def test_rows_without_a_time_or_an_id_are_kept() -> None:
    walk = Walk(0, 10_000, 100, 100)
    walk.next_page()
    fresh = walk.take([Row("", None, b"a"), Row("", 5, b"b"), *rows_at(7, 90)], 0.1)
    assert len(fresh) == 92
    assert walk.since_s == 96
