"""The list of metrics: named by the rules, every label closed, the page in docs/ made from it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import Counter, generate_latest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families

from pipeline import metrics
from tests.docs import DOCS, GENERATED, all_metrics, rendered

ROOT = Path(__file__).parents[2]


def described(metric: MetricWrapperBase) -> tuple[str, str]:
    [family] = metric.describe()
    return family.name, family.documentation


@pytest.mark.parametrize("page", GENERATED)
def test_the_page_is_made_from_the_code(page: str) -> None:
    assert (DOCS / page).read_text(encoding="utf-8") == rendered(page), "run `make docs`"


@pytest.mark.parametrize("metric", all_metrics(), ids=lambda m: described(m)[0])
def test_names_and_sentences(metric: MetricWrapperBase) -> None:
    name, sentence = described(metric)
    assert re.fullmatch(r"wapipe(_[a-z0-9]+)+", name)
    assert sentence[0].isupper() or sentence.startswith(("1 ", "WAPIPE"))
    assert sentence.endswith((".", ")."))
    assert "|" not in sentence
    if not isinstance(metric, Counter):
        assert not name.endswith("_total")
    assert not re.search(r"_(ms|minutes|hours|kb|mb|percent)(_|$)", name), "base units only: seconds, bytes, ratios"


def test_every_label_is_closed() -> None:
    used = {(described(m)[0], label) for m in all_metrics() for label in m._labelnames}
    assert set(metrics.LABEL_SETS) <= used
    open_ones = {label for name, label in used if (name, label) not in metrics.LABEL_SETS}
    assert open_ones == set(metrics.BOUNDED_LABELS)


def test_what_is_unknown_counts_as_other() -> None:
    assert metrics.known("message.ack", metrics.EVENTS) == "message.ack"
    assert metrics.known("49151234567", metrics.EVENTS) == "other"
    for values in (metrics.EVENTS, metrics.ENGINES, metrics.DEAD_REASONS):
        assert metrics.OTHER in values


def literals(name: str, *folders: str) -> Iterator[tuple[str, str]]:
    """The first argument of every `name("…", …)`, and where it stands."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Name)
                    and node.func.id == name
                    and node.args
                ):
                    first = node.args[0]
                    if isinstance(first, ast.Constant) and isinstance(first.value, str):
                        yield first.value, str(path.relative_to(ROOT))


def test_every_reason_to_die_is_in_its_set() -> None:
    found = [*literals("MalformedError", "schemas"), *literals("UnreadableError", "schemas")]
    found += literals("PoisonError", "pipeline", "consumers")
    # The ingress parks what has no envelope; what a publisher or a spool refuses is not a consumer's record.
    elsewhere = ("schemas/envelope.py", "pipeline/broker.py", "pipeline/spool/")
    dead = {reason: path for reason, path in found if not path.startswith(elsewhere)}
    assert len(dead) > 10
    assert {r: p for r, p in dead.items() if r not in metrics.DEAD_REASONS} == {}, "add them to metrics.DEAD_REASONS"


def test_every_refusal_of_the_webhook_is_in_its_set() -> None:
    path = ROOT / "producers" / "ingress.py"
    calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call) and len(n.args) == 2]
    found = {
        (str(c.args[0].value), c.args[1].value)
        for c in calls
        if isinstance(c.func, ast.Name) and c.func.id == "RejectedError"
        and isinstance(c.args[0], ast.Constant) and isinstance(c.args[1], ast.Constant)
    }  # fmt: skip
    assert len(found) > 8
    assert found <= {(code, reason) for code, reasons in metrics.ANSWERS.items() for reason in reasons}


def test_every_dependency_is_a_reason_to_pause() -> None:
    away = {name: path for name, path in literals("TransientError", "pipeline", "consumers")}
    away.pop("spool", None)  # the ingress' own; no consumer waits for it
    assert {"kafka", "postgres"} <= set(away)
    assert set(away) <= metrics.PAUSE_REASONS


def test_counters_of_a_consumer_start_at_0() -> None:
    metrics.begin_consumer("beginner")
    samples = {
        (s.name, s.labels.get("outcome") or s.labels.get("reason")): s.value
        for family in text_string_to_metric_families(generate_latest().decode())
        for s in family.samples
        if s.labels.get("consumer") == "beginner"
    }
    assert {outcome for name, outcome in samples if name == "wapipe_records_total"} == metrics.OUTCOMES
    assert ("wapipe_dead_letters_total", "refused_by_database") in samples
    assert ("wapipe_retention_lost_records_total", None) in samples
    assert set(samples.values()) == {0.0}


def test_a_process_shows_its_own_numbers() -> None:
    families = {f.name: f for f in text_string_to_metric_families(generate_latest().decode())}
    assert families["process_resident_memory_bytes"].samples[0].value > 1e6
    assert families["process_cpu_seconds"].samples[0].value > 0
    assert {s.labels["generation"] for s in families["python_gc_collections"].samples} == {"0", "1", "2"}
