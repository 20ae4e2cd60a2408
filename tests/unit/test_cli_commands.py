"""Commands are found by name, and a process that is started loads the code of its own command alone."""

from __future__ import annotations

import subprocess
import sys

import pytest

_SHOW = """
import atexit, sys
atexit.register(lambda: print("loaded:", *sorted(m for m in sys.modules if m.startswith("pipeline.cli."))))
from pipeline.cli import main
main()
"""


def _wapipe(*arguments: str) -> tuple[int, str]:
    """Exit status, and everything that it prints."""
    done = subprocess.run(
        [sys.executable, "-c", _SHOW, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout


def test_a_process_loads_no_other_command() -> None:
    status, said = _wapipe("run", "--help")
    assert status == 0
    assert said.splitlines()[-1] == "loaded: pipeline.cli.process"


def test_help_knows_every_command() -> None:
    status, said = _wapipe("--help")
    assert status == 0
    for name in ("up", "run", "migrate", "topics", "simulate-waha", "ledger", "replay", "dlq", "waha"):
        assert f" {name} " in said


@pytest.mark.parametrize("arguments", [("topics", "--help"), ("ledger", "--help")], ids=["group", "command"])
def test_one_command_keeps_its_name(arguments: tuple[str, ...]) -> None:
    status, said = _wapipe(*arguments)
    assert status == 0
    assert f"Usage: -c {arguments[0]} " in said


def test_a_name_that_is_none_is_wrong_usage() -> None:
    status, said = _wapipe("rum")
    assert status == 2
    assert "No such command 'rum'" in said
