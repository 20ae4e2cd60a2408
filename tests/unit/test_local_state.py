"""The state file is whole or absent, and a pid counts only with its start time."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from pipeline.local.state import ProcessState, StackState, end_leftovers, is_same, read_state, write_state

KAFKA = ProcessState("kafka", 17, "ready", 2, 9092, 1700000000.5, "/logs/kafka.log", "SIGKILL")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    state = StackState(os.getpid(), psutil.Process().create_time(), "ready", (KAFKA,), None)
    write_state(tmp_path / "state.json", state)
    assert read_state(tmp_path / "state.json") == state
    assert state.alive
    assert [p.name for p in tmp_path.iterdir()] == ["state.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"processes": [{"name": 1}]}', '{"processes": 3}'])
def test_a_strange_file_is_no_state(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text)
    assert read_state(tmp_path / "state.json") is None
    assert read_state(tmp_path / "none.json") is None


def test_a_pid_used_again_is_somebody_else() -> None:
    started = psutil.Process().create_time()
    assert is_same(os.getpid(), started)
    assert not is_same(os.getpid(), started - 60)
    assert not is_same(None, started)


def test_leftovers_spare_a_pid_used_again() -> None:
    """This very process has the pid of a service that is long gone; it must survive."""
    stale = replace(KAFKA, pid=os.getpid(), started_at=1.0)
    assert end_leftovers(StackState(1, 0.0, "ready", (stale,))) == []
