"""Letters: all deaths of one record are one, decisions hold for the deaths they saw, groups count them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from pipeline.cli.dlq_print import to_age
from pipeline.dlq.letters import PARKED_BOX, Decided, Letter, Letters, Origin, Selection, to_groups, to_letter
from schemas.deadletters import Death, death_headers
from schemas.topics import PARKED, dead_letter_topic

DEAD = dead_letter_topic("messages").name
ORIGIN = Origin("waha.message", 3, 1042, 900)


@dataclass
class Record:
    """As much of a consumer's record as letters are made of."""

    offset: int = 0
    headers: list[tuple[str, bytes | None]] = field(default_factory=list)
    partition: int = 0
    timestamp: int | None = 900
    key: bytes | None = b"default|4915112345678@c.us"
    value: bytes | None = b"{}"


def letter(
    offset: int = 0,
    at_ms: int = 1000,
    reason: str = "chat_missing",
    event: str = "message",
    *,
    attempts: int = 1,
    origin_offset: int = ORIGIN.offset,
    time_ms: int = ORIGIN.time_ms,
) -> Letter:
    full = Death("messages", ORIGIN.topic, ORIGIN.partition, origin_offset, time_ms, at_ms, reason, attempts=attempts)
    return to_letter(Record(offset, [("event", event.encode()), *death_headers(full)]), DEAD, "messages")


def chosen(*letters: Letter, decided: Decided | None = None, **selection: Any) -> list[Letter]:
    collected = Letters({} if decided is None else {ORIGIN: decided})
    for one in letters:
        collected.add(one)
    return collected.chosen(Selection(**selection))


def test_the_id_is_where_the_record_stood_first() -> None:
    assert letter(offset=77).id == "waha.message/3/1042"


def test_deaths_of_one_record_are_one_letter() -> None:
    """Also when it stands there twice, because a process died between its acknowledgement and the transaction."""
    first, twin, second = letter(5, 1000), letter(6, 1000), letter(9, 3000, "refused_by_database", attempts=2)
    other_record = letter(7, 1000, origin_offset=9)
    assert chosen(first, twin) == [twin]
    assert chosen(first, twin, second) == [second]
    assert chosen(second, first) == [second]
    assert len(chosen(first, other_record)) == 2


def test_a_topic_made_anew_begins_its_offsets_again() -> None:
    """The old record of an offset and the new one are two letters, and a decision is about one of them."""
    old, new = letter(5, 1000), letter(6, 2000, time_ms=1900)
    assert chosen(old, new) == [old, new]
    assert [x.state for x in chosen(old, new, decided=Decided(1000, "dropped", 1), state=None)] == ["dropped", "open"]


@pytest.mark.parametrize(
    ("decided", "state"),
    [
        (None, "open"),
        (Decided(1000, "redriven", 7), "redriven"),
        (Decided(1000, "dropped", 7), "dropped"),
        (Decided(2000, "dropped", 7), "dropped"),
        (Decided(999, "redriven", 7), "open"),  # it died again after the decision
    ],
)
def test_a_decision_holds_for_the_deaths_it_saw(decided: Decided | None, state: str) -> None:
    [found] = chosen(letter(at_ms=1000), decided=decided, state=None)
    assert (found.state, found.decision) == (state, None if state == "open" else 7)
    assert bool(chosen(letter(at_ms=1000), decided=decided)) == (state == "open")


def test_selection() -> None:
    one = letter(reason="a")
    assert (
        chosen(one, reason="a") == chosen(one, key="default|4915112345678@c.us") == chosen(one, ids=frozenset([one.id]))
    )
    assert chosen(one, reason="a", key="default|4915112345678@c.us", ids=frozenset([one.id])) == [one]
    for other in ({"reason": "b"}, {"key": "default|"}, {"ids": frozenset(["waha.message/3/1"])}, {"state": "dropped"}):
        assert chosen(one, **{"reason": "a"} | other) == []


def test_the_audit_names_no_key() -> None:
    said = Selection("a", "default|4915112345678@c.us", frozenset(["t/0/1"]), None).text
    assert said == "reason a, a key, id t/0/1, state any"
    assert Selection().text == "all"


def test_groups() -> None:
    letters = [
        letter(1, 1000, origin_offset=1),
        letter(2, 5000, origin_offset=2, event="message.any"),
        letter(3, 3000, origin_offset=3, attempts=4),
        letter(4, 100, "refused_by_database", origin_offset=4),
    ]
    first, second = to_groups("messages", letters)
    assert (first.reason, first.letters, first.oldest_at_ms, first.attempts) == ("chat_missing", 3, 1000, 4)
    assert first.events == {"message": 2, "message.any": 1}
    assert first.sample.at.offset == 2
    assert (second.reason, second.letters) == ("refused_by_database", 1)


def test_a_record_that_names_no_origin_is_its_own() -> None:
    """Somebody may have written to the topic by hand."""
    found = to_letter(Record(4, [("event", None)], key=None, value=None, timestamp=None), DEAD, "messages")
    assert (found.id, found.death.reason, found.key, found.size_bytes) == (f"{DEAD}/0/4", "unknown", b"", 0)


def test_parked_bodies_are_letters_too() -> None:
    """Headers are a sender's there: they cannot pretend to be a dead letter of somebody."""
    forged = death_headers(Death("messages", *ORIGIN, 1, "x"))
    found = to_letter(Record(4, [("reason", b"not_json"), *forged]), PARKED.name, PARKED_BOX)
    assert (found.id, found.death.reason, found.death.at_ms) == ("waha.parked/0/4", "not_json", 900)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59, "59 s"), (60, "1 min"), (7300, "2 h"), (200_000, "2 d")]
)
def test_ages(seconds: int, text: str) -> None:
    assert to_age(seconds) == text
