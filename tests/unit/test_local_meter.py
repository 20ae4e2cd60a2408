"""Rates and lag from /metrics, tolerant of what is absent."""

from __future__ import annotations

from pipeline.local.meter import Meter, Reading, total_of

TEXT = """\
# HELP wapipe_records_total Records.
# TYPE wapipe_records_total counter
wapipe_records_total{consumer="messages",outcome="written"} 30.0
wapipe_records_total{consumer="messages",outcome="odd } label"} 12
wapipe_records_total_created 5
wapipe_lag_records{partition="0"} 3.0
wapipe_lag_records{partition="1"} 4.0
wapipe_lag_records{partition="2"} broken
"""


def test_series_are_summed_and_the_absent_is_none() -> None:
    assert total_of(TEXT, "wapipe_records_total") == 42
    assert total_of(TEXT, "wapipe_lag_records") == 7
    assert total_of(TEXT, "wapipe_other") is None
    assert total_of("wapipe_plain 3", "wapipe_plain") == 3


def test_rate_is_the_rise_between_two_readings() -> None:
    now = [10.0]
    meter = Meter(clock=lambda: now[0])
    assert meter.take(1, TEXT) == Reading(42, 7, None)
    now[0] = 12.0
    assert meter.take(1, TEXT.replace(" 30.0", " 50.0")).rate == 10
    assert meter.take(1, "wapipe_records_total 1").rate is None  # started again
    assert meter.take(2, "") == Reading()
