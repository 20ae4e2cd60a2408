"""The operator's page on dead letters: every command on it is one that there is, and every reason is explained."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from pipeline.cli import dlq
from pipeline.metrics import DEAD_REASONS, OTHER
from schemas.deadletters import Death, death_headers

PAGE = (Path(__file__).parents[2] / "docs" / "dead-letters.md").read_text(encoding="utf-8")
COMMANDS = [line.partition(" | ")[0] for line in PAGE.splitlines() if line.startswith("wapipe dlq ")]


def test_the_page_shows_every_command() -> None:
    assert {line.split()[2] for line in COMMANDS} == set(commands().commands)


@pytest.mark.parametrize("line", COMMANDS)
def test_its_commands_are_understood(line: str) -> None:
    name, *words = shlex.split(line)[2:]
    commands().commands[name].make_context(name, words)


def test_a_command_that_is_not_understood_is_noticed() -> None:
    for words in (["messages", "--everything"], ["messages", "--all", "--state", "lost"]):
        with pytest.raises(Exception, match=r"No such option|is not one of"):
            commands().commands["replay"].make_context("replay", words)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("replay messages", "either --all, or"),
        ("replay messages --all --reason x", "either --all, or"),
        ("drop messages --because x", "either --all, or"),
        ("drop messages --all", "Missing option"),
        ("drop messages --all --because ' '", "say why"),
        ("list --state lost", "Invalid value"),
    ],
)
def test_usage_errors_are_explained_before_anything_is_done(line: str, says: str) -> None:
    ended = CliRunner().invoke(dlq.dlq, shlex.split(line))
    assert (ended.exit_code, says in ended.output) == (2, True), ended.output


def test_every_reason_is_explained() -> None:
    table = re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE)
    explained = re.findall(r"`(…?)([a-z_]+)`", " ".join(table))
    for reason in DEAD_REASONS - {OTHER}:
        assert any(reason.endswith(tail) if dots else reason == tail for dots, tail in explained), reason


def test_every_header_is_explained() -> None:
    for name, _ in death_headers(Death("c", "t", 0, 0, 0, 0, "r")):
        assert f"`{name}`" in PAGE


def commands() -> Any:
    """The group's, as typer's own parser has them."""
    return typer.main.get_command(dlq.dlq)
