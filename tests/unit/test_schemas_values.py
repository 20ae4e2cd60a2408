"""Single fields: units of time, numbers written as text, wrong types read as missing."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.normalize.values import number, obj, text, time_ms

SECONDS = 1_784_973_600
MS = SECONDS * 1000


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(SECONDS, MS, id="seconds: messages of every engine"),
        pytest.param(MS, MS, id="milliseconds: group events of NOWEB and GOWS"),
        pytest.param(1710481111.853, 1_710_481_111_853, id="float seconds: WEBJS reactions"),
        pytest.param(float(MS), MS, id="float milliseconds"),
        pytest.param(str(SECONDS), MS, id="seconds as text"),
        pytest.param(f"{SECONDS}.5", MS + 500, id="float seconds as text"),
        pytest.param(str(MS), MS, id="milliseconds as text"),
        pytest.param(1, 1000, id="the first second of 1970"),
        pytest.param(99_999_999_999, None, id="seconds of the year 5138: absurd"),
        pytest.param(100_000_000_000, 100_000_000_000, id="from here on milliseconds: 1973"),
        pytest.param(32_503_679_999_999, 32_503_679_999_999, id="the last millisecond before the year 3000"),
        pytest.param(32_503_680_000_000, None, id="the year 3000"),
        pytest.param(0, None, id="zero: GOWS without a time"),
        pytest.param(-SECONDS, None, id="negative"),
        pytest.param(10**400, None, id="an integer beyond any float"),
        pytest.param(-(10**400), None, id="and its negative"),
        pytest.param("9" * 400, None, id="the same as text"),
        pytest.param(float("nan"), None, id="NaN"),
        pytest.param(float("inf"), None, id="infinity"),
        pytest.param("NaN", None, id="NaN as text"),
        pytest.param("soon", None, id="words"),
        pytest.param("", None, id="empty text"),
        pytest.param(True, None, id="true is no number"),
        pytest.param(None, None, id="null"),
        pytest.param([SECONDS], None, id="array"),
        pytest.param({"low": SECONDS}, None, id="object (a protobuf Long)"),
    ],
)
def test_time_ms(value: Any, expected: int | None) -> None:
    assert time_ms(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(1, 1.0, id="int"),
        pytest.param(-23.5505, -23.5505, id="float: WEBJS coordinates"),
        pytest.param("-23.5505", -23.5505, id="text: NOWEB and GOWS coordinates"),
        pytest.param("", None, id="empty"),
        pytest.param("north", None, id="words"),
        pytest.param("nan", None, id="nan as text"),
        pytest.param("1e999", None, id="overflow as text"),
        pytest.param(float("-inf"), None, id="infinity"),
        pytest.param(2**63, None, id="no bigint"),
        pytest.param(True, None, id="bool"),
        pytest.param(None, None, id="null"),
        pytest.param([1], None, id="array"),
        pytest.param({}, None, id="object"),
    ],
)
def test_number(value: Any, expected: float | None) -> None:
    assert number(value) == expected


@pytest.mark.parametrize("value", [None, "", 0, 1, 1.5, True, [], ["a"], {}, {"a": "b"}, b"a"], ids=repr)
def test_text_is_a_non_empty_string_only(value: Any) -> None:
    assert text(value) is None


def test_text_is_kept_as_it_is() -> None:
    assert text(" Olá 👩‍💻\n") == " Olá 👩‍💻\n"


@pytest.mark.parametrize("value", [None, "", "a", 1, True, [], [{}]], ids=repr)
def test_obj_is_an_object_or_empty(value: Any) -> None:
    assert obj(value) == {}
    assert obj({"a": value}) == {"a": value}
