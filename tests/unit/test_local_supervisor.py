"""Restart back-off and the order of starts, without starting anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.local.service import Service
from pipeline.local.supervisor import Backoff, ordered


def program(name: str, needs: tuple[str, ...] = ()) -> Service:
    return Service(name=name, argv=("true",), cwd=Path("/"), env={}, needs=needs)


def test_backoff_doubles_to_its_limit_and_begins_anew_after_a_minute() -> None:
    backoff = Backoff()
    assert [backoff.pause_s(0) for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert backoff.pause_s(59) == 30
    assert [backoff.pause_s(60), backoff.pause_s(1)] == [0.5, 1]


def test_order_follows_the_needs_and_a_circle_is_an_error() -> None:
    services = [program("c", ("a", "b", "absent")), program("b", ("a",)), program("a")]
    assert [s.name for s in ordered(services)] == ["a", "b", "c"]
    with pytest.raises(ValueError, match="need each other: a, b"):
        ordered([program("a", ("b",)), program("b", ("a",))])
