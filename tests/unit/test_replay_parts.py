"""The pure parts of a replay: what is ordered, which ranges that is, which records are wanted, how fast they may go."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.batch import Partition
from pipeline.replay.compare import _outline
from pipeline.replay.pace import Pace
from pipeline.replay.ranges import Range, resolve
from pipeline.replay.selection import Selection
from pipeline.replay.spec import Bound, Spec, books_name, is_replay, parse_bound

NOW_MS = 1_784_973_600_000  # 2026-07-25T10:00:00Z
HOUR_MS = 3_600_000
A0, A1, B0 = Partition("a", 0), Partition("a", 1), Partition("b", 0)


# ---------------------------------------------------------------- orders
@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("0", Bound(offset=0)),
        ("1200", Bound(offset=1200)),
        ("90s", Bound(time_ms=NOW_MS - 90_000)),
        ("30m", Bound(time_ms=NOW_MS - HOUR_MS // 2)),
        ("2h", Bound(time_ms=NOW_MS - 2 * HOUR_MS)),
        ("7d", Bound(time_ms=NOW_MS - 7 * 24 * HOUR_MS)),
        ("2026-07-25T10:00", Bound(time_ms=NOW_MS)),
        ("2026-07-25 10:00:00.5", Bound(time_ms=NOW_MS + 500)),
        ("2026-07-25T10:00Z", Bound(time_ms=NOW_MS)),
        ("2026-07-25T12:00+02:00", Bound(time_ms=NOW_MS)),
        ("2026-07-25", Bound(time_ms=NOW_MS - 10 * HOUR_MS)),
    ],
)
def test_bounds_are_read_as_people_write_them(text: str, bound: Bound) -> None:
    assert parse_bound(text, NOW_MS) == bound


@pytest.mark.parametrize("text", ["", "yesterday", "-5", "2 h", "12:00", "1w", "²", "9" * 30, "2026-13-01"])
def test_other_bounds_are_refused_with_what_is_possible(text: str) -> None:
    with pytest.raises(ValueError, match="offset"):
        parse_bound(text, NOW_MS)


def test_an_order_survives_the_database() -> None:
    order = Spec(
        "messages", ("waha.message",), (3,), Bound(offset=1), Bound(time_ms=2), ("s",), ("c@c.us",), ("message",), 5.5,
        True, True,
    )  # fmt: skip
    assert Spec.from_json(order.to_json()) == order
    assert Spec.from_json(Spec("messages", ()).to_json()) == Spec("messages", ())
    assert is_replay(books_name("messages", 7))
    assert not is_replay("messages")


# ---------------------------------------------------------------- ranges
BOUNDS = {A0: (10, 100), A1: (0, 50), B0: (5, 5)}


def test_without_bounds_everything_is_read_and_empty_partitions_are_left_out() -> None:
    assert resolve(Spec("c", ()), BOUNDS, {}) == [Range(A0, 10, 100), Range(A1, 0, 50)]


def test_offsets_count_in_each_partition_and_what_is_deleted_is_told() -> None:
    order = Spec("c", (), start=Bound(offset=4), end=Bound(offset=60))
    assert resolve(order, BOUNDS, {}) == [Range(A0, 10, 60, gone=6), Range(A1, 4, 50)]


def test_nothing_as_young_as_the_start_is_nothing_to_read() -> None:
    start, end = Bound(time_ms=1), Bound(time_ms=2)
    order = Spec("c", (), start=start, end=end)
    times: dict[Bound, dict[Partition, int | None]] = {
        start: {A0: 20, A1: None, B0: None},
        end: {A0: None, A1: None, B0: None},
    }
    assert resolve(order, BOUNDS, times) == [Range(A0, 20, 100)]


@given(
    st.integers(0, 50), st.integers(0, 50), st.one_of(st.none(), st.integers(0, 120)),
    st.one_of(st.none(), st.integers(0, 120)),
)  # fmt: skip
def test_a_range_lies_within_the_log_and_the_order(begin: int, length: int, start: int | None, end: int | None) -> None:
    log = (begin, begin + length)
    found = resolve(Spec("c", (), start=Bound(offset=start), end=Bound(offset=end)), {A0: log}, {})
    wanted = {o for o in range(*log) if (start is None or o >= start) and (end is None or o < end)}
    assert {o for r in found for o in range(r.first, r.end)} == wanted


# ---------------------------------------------------------------- filters
@dataclass
class Record:
    headers: list[tuple[str, bytes | None]] = field(default_factory=list)
    key: bytes | None = None
    value: bytes | None = None


def wants(record: Record, **filters: tuple[str, ...]) -> bool:
    return Selection(Spec("c", (), **filters)).wants(record)  # type: ignore[arg-type] # the three filters only


BODY = b'{"event":"message","session":"default","payload":{"id":"false_1@c.us_X"}}'


def test_records_are_chosen_by_header_and_key_without_reading_the_body() -> None:
    record = Record([("event", b"message"), ("session", b"berlin:default")], b"berlin:default|1@c.us", b"no json")
    assert wants(record)
    assert wants(record, sessions=("x", "berlin:default"), chats=("1@c.us",), events=("message", "message.any"))
    assert not wants(record, sessions=("default",))
    assert not wants(record, chats=("2@c.us",))
    assert not wants(record, chats=("berlin:default|1@c.us",))
    assert not wants(record, events=("message.any",))


def test_where_headers_or_key_say_nothing_the_body_does() -> None:
    record = Record([("event", b"message"), ("source", b"lima")], None, BODY)
    assert wants(record, sessions=("lima:default",), chats=("1@c.us",))
    assert not wants(record, sessions=("default",))
    assert not wants(Record([], b"t-0-7", b"no json"), chats=("1@c.us",))
    assert not wants(Record([("session", None)], b"", None), sessions=("default",))
    cut = Record([("session", b"default")], b"default|" + b"9" * 504, BODY)
    assert wants(cut, chats=("1@c.us",))


def test_names_that_are_no_ascii_are_found_as_the_ingress_writes_them() -> None:
    record = Record([("event", b"message"), ("session", b"caf\\xe9")], "café|1@c.us".encode())
    assert wants(record, sessions=("café",), chats=("1@c.us",))


# ---------------------------------------------------------------- pace
@pytest.mark.parametrize("batch", [1, 7, 50, 500])
def test_no_more_records_pass_than_the_rate_allows(batch: int) -> None:
    now, passed, rate = 0.0, 0, 50.0
    pace = Pace(rate, clock=lambda: now)
    log: list[tuple[float, int]] = []
    while now < 60:
        now += pace.delay_s(batch)
        passed += batch
        log.append((now, passed))
        assert passed <= rate * (now + 1) + 1e-6
    assert passed >= rate * now - batch


def test_an_idle_time_is_not_made_up_for() -> None:
    now = 0.0
    pace = Pace(10.0, clock=lambda: now)
    assert pace.delay_s(10) == 0
    now = 1000.0
    assert pace.delay_s(10) == 0
    assert pace.delay_s(10) == pytest.approx(1.0)


# ---------------------------------------------------------------- examples
def test_examples_show_the_shape_of_a_text_and_not_the_text() -> None:
    assert _outline("Olá, Ana! Ligue 11 98888-7777 🦊", shown=False) == "'Xxx, Xxx! Xxxxx 00 00000-0000 🦊'"
    assert _outline("你好", shown=False) == "'xx'"
    assert _outline("image", shown=True) == "'image'"
    assert (_outline(None, shown=False), _outline(True, shown=False), _outline(7, shown=False)) == ("null", "True", "7")
    assert len(_outline("x" * 5000, shown=False)) < 80
