"""`wapipe replay`: what it refuses before it starts anything, and what it prints at the end."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from pipeline.batch import Partition
from pipeline.cli import replay_print
from pipeline.cli.replay import replay
from pipeline.errors import ConfigError
from pipeline.replay.compare import Difference
from pipeline.replay.orders import Order
from pipeline.replay.outcome import Outcome, Rehearsal
from pipeline.replay.ranges import Range
from pipeline.replay.spec import Bound, Spec

AT = datetime(2026, 7, 25, 10, tzinfo=UTC)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHATSAPP_DB_PASSWORD", "a secret of its own")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["messages", "--keep"], "--shadow"),
        (["messages", "--dry-run", "--shadow"], "choose one"),
        (["start", "messages", "--topic", "waha.session"], "waha.message"),
        (["messages", "--from", "yesterday"], "--from"),
        (["messages", "--to", "1w"], "--to"),
        (["messages", "--chat", "nobody"], "--chat"),
        (["messages", "--rate", "0"], "--rate"),
        (["messages", "--partition", "-1"], "--partition"),
        (["resume", "seven"], "ID"),
    ],
)
@pytest.mark.usefixtures("environment")
def test_wrong_usage_says_what_is_right(arguments: list[str], words: str) -> None:
    result = CliRunner().invoke(replay, arguments)
    assert result.exit_code == 2, result.output
    assert words in " ".join(result.output.replace("│", " ").split())


@pytest.mark.usefixtures("environment")
def test_only_consumers_can_be_replayed() -> None:
    for name, words in (("gateway", "reads no topics"), ("mesages", "there are: all")):
        result = CliRunner().invoke(replay, [name])
        assert isinstance(result.exception, ConfigError)
        assert words in str(result.exception)


def test_help_is_there_for_the_group_and_for_the_word_that_may_be_left_out() -> None:
    assert "resume" in CliRunner().invoke(replay, ["--help"]).output
    assert "OFFSET" in CliRunner().invoke(replay, ["messages", "--help"]).output


# ---------------------------------------------------------------- what is printed
def printed(show: Any, *what: Any) -> str:
    out = Console(file=io.StringIO(), highlight=False, markup=False, width=100)
    show(*what, out, as_json=False)
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


def outcome(**more: Any) -> Outcome:
    books = {"records": 10, "written": 1, "merged": 2, "skipped": 3, "dead": 4, "gap": 0}
    return replace(Outcome("messages", "done", 7, passed=10, total=10, books=books), **more)


def test_the_end_of_a_replay_is_told_with_what_to_do_next() -> None:
    text = printed(replay_print.print_outcome, outcome(skipped_events={"(filtered)": 3}))
    assert "10 records = 1 written + 2 merged + 3 skipped + 4 dead-lettered" in text
    assert "wapipe dlq list messages" in text
    assert text.rstrip().endswith("the books balance")
    stopped = printed(replay_print.print_outcome, outcome(state="stopped", passed=6, before=4, elapsed_s=2.0))
    assert "6 of 10 offsets passed (4 of them earlier), 2.0 s, 1/s" in stopped
    assert "wapipe replay resume 7" in stopped
    assert "DO NOT BALANCE" in printed(replay_print.print_outcome, outcome(state="failed", difference=1))
    nothing = printed(replay_print.print_outcome, Outcome("messages", "nothing", unread=5))
    assert "5 records were left out" in nothing
    assert "no record in this range" in nothing


def test_differences_are_told_by_table_column_and_example() -> None:
    tables = [
        Difference("message_content", 5, 1, 2, 3, 4, {"body": 2}, ["changed waha.message/0/7: body 'Xx' → 'Xx!'"]),
        Difference("reactions", 5, 0, 0, None, 0, {}, []),
    ]
    text = printed(
        replay_print.print_outcome,
        outcome(
            tables=tables, scratch="whatsapp_gateway_shadow_7", dead_letters={"not_json": 2}, dead_places=["t/0/1 x"]
        ),
    )
    assert "message_content: changed rows by column: body 2" in text
    assert "waha.message/0/7" in text
    assert "not told" in text
    assert "would be dead letters, by reason: not_json 2; the first ones: t/0/1 x" in text
    assert "stays until: wapipe replay drop 7" in text
    assert "no difference" not in text
    assert "no difference" in printed(replay_print.print_outcome, outcome(tables=tables[1:]))


def test_a_rehearsal_says_what_is_gone() -> None:
    found = Rehearsal("messages", [Range(Partition("waha.message", 0), 10, 20, gone=4)], records=10, decoded=10)
    text = printed(replay_print.print_rehearsal, found, Spec("messages", (), start=Bound(offset=6)))
    assert "4 offsets that were asked for are deleted already" in text
    assert "from offset 6 to now: 10 records read" in text
    assert "nothing was written" in text


def order(number: int, state: str, *, held: bool, error: str | None = None) -> Order:
    return Order(
        number, "messages", Spec("messages", ()), state, 10, 5, error, None, "host", 99, AT, AT, None, held
    )  # fmt: skip


def test_the_list_tells_the_living_from_the_dead_and_what_was_left_over() -> None:
    orders = [
        order(1, "running", held=True),
        order(2, "running", held=False),
        order(3, "failed", held=False, error="why"),
    ]
    assert [o.shown_state for o in orders] == ["running", "dead", "failed"]
    text = printed(replay_print.print_orders, orders, {1: "s1", 2: "s2", 9: "s9"})
    assert "replay 1 is worked on by process 99 on host" in text
    assert "replay 2 is dead since 2026-07-25 10:00:00. Go on: wapipe replay resume 2" in text
    assert "replay 3 is failed since 2026-07-25 10:00:00: why." in text
    assert "schema s1" not in text
    assert "schema s9. Remove it with: wapipe replay drop 9" in text
    assert "no replay has been started yet" in printed(replay_print.print_orders, [], {})
