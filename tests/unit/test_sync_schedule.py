"""What a session is asked for and when, and how complete that makes it. Pure."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.settings import load_settings
from pipeline.sync.coverage import Gap, judge
from pipeline.sync.scheduler import Asked, due_requests
from schemas.errors import MalformedError
from schemas.sync import make_request, parse_request, to_value

NOW = 1_800_000_000
DAY = 86_400
SETTINGS = load_settings({}).sync  # every 5 minutes, 7 days deep, an overlap of 15 minutes, people every 6 hours
NEVER = Asked(False, False, None, None, None, None)


def due(asked: Asked, jitter: float = 0.0) -> list[tuple[str, str, int, int]]:
    return [(r.reason, r.kind, r.since_s, r.until_s) for r in due_requests("s", asked, NOW, SETTINGS, jitter)]


def asked(until: int, ago: int, *, busy: bool = False, deep: int = 0, people: int = 0) -> Asked:
    return Asked(busy, False, NOW - until, NOW - ago, NOW - deep, NOW - people)


def test_a_new_session_is_asked_for_its_past_and_its_people() -> None:
    assert due(NEVER) == [("initial", "messages", NOW - 7 * DAY, NOW), ("periodic", "people", NOW, NOW)]


def test_a_look_back_begins_before_the_end_of_the_last_one() -> None:
    assert due(asked(until=300, ago=300)) == [("periodic", "messages", NOW - 300 - 900, NOW)]
    assert due(asked(until=299, ago=299)) == []
    assert due(asked(until=300, ago=300), jitter=1.0) == []
    assert due(asked(until=330, ago=330), jitter=1.0) != []


def test_never_while_one_is_under_way() -> None:
    assert due(asked(until=3000, ago=3000, busy=True)) == []


def test_once_a_day_the_whole_depth() -> None:
    assert due(asked(until=300, ago=300, deep=DAY)) == [("periodic", "messages", NOW - 7 * DAY, NOW)]


def test_after_a_long_silence_no_deeper_than_the_depth() -> None:
    assert due(asked(until=30 * DAY, ago=30 * DAY)) == [("periodic", "messages", NOW - 7 * DAY, NOW)]


def test_people_on_their_own_cadence() -> None:
    assert due(asked(until=10, ago=10, people=6 * 3600)) == [("periodic", "people", NOW, NOW)]


def run(status: str, since: int, until: int, **more: Any) -> dict[str, Any]:
    return {
        "status": status, "since_s": since, "until_s": until, "reason": "initial", "error": None, "seen": 10, "new": 0, **more
    }  # fmt: skip


def test_nobody_knows_before_anything_was_fetched() -> None:
    assert judge([], []).complete == "unknown"


def test_complete_from_the_first_to_the_last_second_that_was_seen() -> None:
    found = judge([run("completed", 90, 200, reason="periodic", new=2), run("completed", 0, 100)], [])
    assert (found.complete, found.since_s, found.until_s, found.looked_at, found.missed) == ("true", 0, 200, 10, 2)


def test_a_hole_between_two_windows_is_not_claimed() -> None:
    found = judge([run("completed", 150, 200), run("completed", 0, 100)], [])
    assert (found.since_s, found.until_s) == (150, 200)


@pytest.mark.parametrize("status", ["pending", "running", "waiting", "failed"])
def test_not_complete_while_a_request_has_not_got_there(status: str) -> None:
    found = judge([run(status, 0, 300, error="the store is off"), run("completed", 0, 100)], [])
    assert found.complete == "false"
    assert status in found.why
    assert "the store is off" in found.why
    assert judge([run("completed", 0, 300), run(status, 0, 300)], []).complete == "true"


def test_not_complete_with_an_open_gap() -> None:
    gap = Gap("all", "not_working", 10, 20, "open", None)
    assert judge([run("completed", 0, 100)], [gap]).complete == "false"


def test_a_request_survives_its_record() -> None:
    request = make_request("berlin:acme", "gap", 5, 9, chat="49151@c.us")
    assert parse_request(to_value(request)) == request
    assert request.priority == 0
    assert make_request("berlin:acme", "gap", 5, 9, chat="49151@c.us").request_id == request.request_id
    assert make_request("berlin:acme", "gap", 5, 8, chat="49151@c.us").request_id != request.request_id


@pytest.mark.parametrize(
    "value",
    [
        b"", b"[]", b"{}", b'{"request_id": "a", "session": "s", "reason": "whim", "since_s": 0, "until_s": 1}',
        b'{"request_id": "a", "session": "s", "reason": "gap", "since_s": 2, "until_s": 1}',
        b'{"request_id": "a", "session": "", "reason": "gap", "since_s": 0, "until_s": 1}',
        b'{"request_id": "a", "session": "s", "reason": "gap", "since_s": 0, "until_s": 1, "chat": "' + b"x" * 300 + b'"}',
    ],
)  # fmt: skip
def test_what_is_no_request_is_refused(value: bytes) -> None:
    with pytest.raises(MalformedError, match="sync_request_wrong"):
        parse_request(value)
