"""The rank that decides which of several contents of one message is shown, and the order of COPY."""

from __future__ import annotations

import re
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.rows import LANE_BACKFILL, LANE_LIVE, SessionFact, StagedContent, content_rank
from sql import migrations, queries

AT_MS = 1_784_973_600_000

poverties = st.integers(0, 2)
lanes = st.sampled_from([LANE_LIVE, LANE_BACKFILL])
times = st.integers(0, 2**47)
events = st.binary(max_size=40)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        pytest.param((0, LANE_LIVE, AT_MS), (1, LANE_LIVE, AT_MS), id="described media before undescribed"),
        pytest.param((1, LANE_LIVE, AT_MS), (2, LANE_LIVE, AT_MS), id="anything before nothing"),
        pytest.param((0, LANE_BACKFILL, AT_MS), (1, LANE_LIVE, AT_MS - 1), id="richer before live"),
        pytest.param((0, LANE_LIVE, AT_MS + 1), (0, LANE_BACKFILL, AT_MS), id="live before backfill"),
        pytest.param((0, LANE_LIVE, AT_MS), (0, LANE_LIVE, AT_MS + 1), id="first received before later"),
        pytest.param((0, LANE_LIVE, 0), (0, LANE_LIVE, 2**47), id="times of 47 bits"),
    ],
)
def test_lowest_rank_is_shown(better: tuple[int, int, int], worse: tuple[int, int, int]) -> None:
    assert content_rank(*better, b"zzz") < content_rank(*worse, b"a")


@given(poverties, lanes, times, events)
def test_rank_is_16_bytes_and_the_same_for_everybody(poverty: int, lane: int, at_ms: int, event: bytes) -> None:
    rank = content_rank(poverty, lane, at_ms, event)
    assert len(rank) == 16
    assert rank == content_rank(poverty, lane, at_ms, bytes(bytearray(event)))


@given(st.tuples(poverties, lanes, times), st.tuples(poverties, lanes, times), events, events)
def test_rank_orders_as_its_parts_do(
    a: tuple[int, int, int], b: tuple[int, int, int], event_a: bytes, event_b: bytes
) -> None:
    if a != b:
        assert (content_rank(*a, event_a) < content_rank(*b, event_b)) is (a < b)


def test_two_events_of_one_millisecond_have_an_order() -> None:
    """Twins share their envelope id: the event's name must tell them apart."""
    ranks = {content_rank(0, LANE_LIVE, AT_MS, f"{event}|evt_1".encode()) for event in ("message", "message.any")}
    assert len(ranks) == 2


def test_ranks_of_many_events_of_one_millisecond_do_not_collide() -> None:
    rng = Random(1)
    ranks = {content_rank(0, LANE_LIVE, AT_MS, f"message|evt_{rng.getrandbits(128):x}".encode()) for _ in range(1000)}
    assert len(ranks) == 1000


def test_rank_and_uuid_order_alike() -> None:
    """PostgreSQL compares uuids as bytes, and so does Python: either side may decide."""
    ranks = [content_rank(p, 0, AT_MS + t, b"e%d" % t) for p in (2, 0, 1) for t in (5, 255, 256, 70_000)]
    assert sorted(ranks) == sorted(ranks, key=lambda r: r.hex())


# ---------------------------------------------------------------- COPY order
def test_staged_content_is_the_stage_tables_columns_in_order() -> None:
    stage = re.search(r"stage_messages \((.*?)\) ON COMMIT", queries("messages")["stage"], re.DOTALL)
    assert stage is not None
    columns = [c.split()[0].strip('"') for c in stage[1].split(",")]
    assert columns == [*StagedContent._fields, "first_ms", "origin"]


def test_session_facts_have_their_tables_columns() -> None:
    text = "\n".join(m.text for m in migrations())
    created = re.search(r"CREATE TABLE sessions \((.*?)\n\)", text, re.DOTALL)
    assert created is not None
    columns = set(re.findall(r"^ {4}(\w+)", created[1], re.MULTILINE))
    assert {{"at": "status_at"}.get(f, f) for f in SessionFact._fields} <= columns
