"""Headers of a dead letter: what is written is read back, deaths of one record add up, and odd headers harm nothing."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.deadletters import Death, Past, death_headers, read_death

FIRST = Death(
    "messages", "waha.message", 3, 1042, 1_700_000_000_000, 1_700_000_100_000, "refused_by_database", "22023 no", "DataError",
    "0.1.0", "write", 500, 9,
)  # fmt: skip


def test_what_is_written_is_read_back() -> None:
    again = FIRST._replace(topic="wapipe.redrive.messages", offset=0, at_ms=1_700_000_200_000).after(FIRST)
    for death in (FIRST, again):
        headers = death_headers(death)
        assert read_death([("event", b"message"), *headers]) == death
        assert all(name.startswith("dead-") and value.isascii() for name, value in headers)


def test_a_record_that_dies_again_keeps_its_place_and_its_history() -> None:
    second = Death("messages", "wapipe.redrive.messages", 0, 7, 5, 1_700_000_200_000, "chat_missing", version="0.2.0")
    found = second.after(FIRST)
    assert (found.topic, found.partition, found.offset, found.time_ms) == ("waha.message", 3, 1042, FIRST.time_ms)
    assert (found.reason, found.attempts, found.first_at_ms) == ("chat_missing", 2, FIRST.at_ms)
    assert found.history == (Past(FIRST.at_ms, "refused_by_database", "0.1.0"),)


def test_a_later_death_is_later_whatever_the_clocks_say() -> None:
    """What was decided about a death must not hide the next one."""
    assert FIRST._replace(at_ms=1_600_000_000_000).after(FIRST).at_ms == FIRST.at_ms + 1


def test_the_history_is_bounded_and_keeps_its_beginning() -> None:
    death = FIRST
    for number in range(40):
        death = FIRST._replace(at_ms=FIRST.at_ms + 1000 * (number + 1), reason=f"reason_{number}").after(death)
    assert death.attempts == 41
    assert death.first_at_ms == FIRST.at_ms
    assert [p.reason for p in death.history] == ["refused_by_database", *(f"reason_{n}" for n in range(30, 39))]
    assert read_death(death_headers(death)) == death


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("event", b"message")],
        [("dead-topic", b"waha.message"), ("dead-partition", b"0")],
        [("dead-topic", b"waha.message"), ("dead-partition", b"-1"), ("dead-offset", b"1")],
        [("dead-topic", b"waha.message"), ("dead-partition", b"0"), ("dead-offset", b"9" * 30)],
        [("dead-topic", b"waha.message"), ("dead-partition", "²".encode()), ("dead-offset", b"1")],
        [("dead-topic", None), ("dead-partition", b"0"), ("dead-offset", b"1")],
    ],
)
def test_without_an_origin_there_is_no_death(headers: list[Any]) -> None:
    assert read_death(headers) is None


def test_letters_of_an_older_version_are_read() -> None:
    """They had the place, the reason and the time only."""
    headers = [
        ("dead-topic", b"waha.chat"), ("dead-partition", b"2"), ("dead-offset", b"5"), ("dead-at-ms", b"17"),
        ("dead-reason", b"chat_missing"), ("dead-consumer", b"messages"),
    ]  # fmt: skip
    assert read_death(headers) == Death("messages", "waha.chat", 2, 5, 17, 17, "chat_missing")


def test_odd_values_read_as_empty() -> None:
    odd = {"dead-attempts": b"many", "dead-history": b",x y,12", "dead-reason": b"\xff", "dead-time-ms": None}
    headers = [(n, odd.get(n, v)) for n, v in death_headers(FIRST)]
    found = read_death(headers)
    assert found is not None
    assert (found.attempts, found.reason, found.time_ms) == (1, "\ufffd", FIRST.at_ms)
    assert found.history == (Past(0, "", ""), Past(0, "y", ""), Past(12, "", ""))
