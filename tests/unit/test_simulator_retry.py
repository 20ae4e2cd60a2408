"""WAHA's retry rules as numbers, and the latency buckets of the report."""

from __future__ import annotations

from datetime import UTC, datetime
from random import Random

import pytest

from producers.simulator.report import Latencies
from producers.simulator.retry import Policy, Retry, parse_retry_after

RNG = Random(5)


def test_defaults_are_wahas() -> None:
    assert Retry() == Retry("constant", 2.0, 15)


@pytest.mark.parametrize(("policy", "waits"), [("constant", [2, 2, 2]), ("linear", [2, 4, 6])])
def test_constant_and_linear(policy: Policy, waits: list[float]) -> None:
    assert [Retry(policy).wait_s(n, 0, RNG) for n in (1, 2, 3)] == waits


def test_exponential_starts_at_twice_the_delay_and_jitters_up_to_a_fifth() -> None:
    for n in range(1, 16):
        wait = Retry("exponential").wait_s(n, 0, RNG)
        assert 2**n * 2 <= wait <= 2**n * 2 * 1.2
    assert Retry("exponential").wait_s(15, 0, RNG) > 18 * 3600


@pytest.mark.parametrize("policy", ["constant", "linear", "exponential"])
def test_retry_after_is_a_minimum(policy: Policy) -> None:
    retry = Retry(policy)
    assert 60 <= retry.wait_s(1, 60, RNG) <= 72
    assert retry.wait_s(1, 0.5, RNG) >= 2


def test_delay_zero_is_immediate() -> None:
    assert Retry(delay_s=0).wait_s(3, 0, RNG) == 0


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 0),
        ("", 0),
        ("4", 4),
        ("1.5", 1.5),
        ("-3", 0),
        ("soon", 0),
        ("Sat, 25 Jul 2026 10:00:30 GMT", 30),
        ("Sat, 25 Jul 2026 09:00:00 GMT", 0),
    ],
)
def test_retry_after_header(header: str | None, seconds: float) -> None:
    assert parse_retry_after(header, datetime(2026, 7, 25, 10, tzinfo=UTC)) == seconds


def test_quantiles_are_right_to_two_percent() -> None:
    latencies = Latencies()
    for n in range(1, 1001):
        latencies.add(n / 1000)
    assert latencies.quantile_ms(0.5) == pytest.approx(500, rel=0.025)
    assert latencies.quantile_ms(0.99) == pytest.approx(990, rel=0.025)
    assert latencies.quantile_ms(1.0) == 1000
    assert latencies.max_s == 1
    assert Latencies().quantile_ms(0.5) == 0
