"""deploy/prometheus/rules.yml against the code and the documentation, without Prometheus."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.registry import registry
from tests.docs import all_metrics, sample_name

ROOT = Path(__file__).parents[2]
[GROUP] = yaml.safe_load((ROOT / "deploy/prometheus/rules.yml").read_text())["groups"]
RULES: dict[str, dict[str, Any]] = {rule["alert"]: rule for rule in GROUP["rules"]}
TESTED = yaml.safe_load((ROOT / "tests/integration/rules_test.yml").read_text())["tests"]


def anchors(page: str) -> set[str]:
    """The anchors of a page's headings, as a forge makes them."""
    headings = re.findall(r"^#+ (.+)$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h).strip().lower().replace(" ", "-") for h in headings}


@pytest.mark.parametrize("name", RULES)
def test_an_alert_says_what_it_is_and_what_to_do(name: str) -> None:
    rule = RULES[name]
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    assert rule["labels"]["severity"] in ("critical", "warning")
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert anchor == name.lower()
    assert anchor in anchors(page), f"{page} has no heading {name}"


@pytest.mark.parametrize("name", RULES)
def test_an_alert_asks_for_metrics_that_are_there(name: str) -> None:
    known = {sample_name(m) for m in all_metrics()} | {"up"}
    asked = set(re.findall(r"\b(?:wapipe_\w+|up)\b(?=[\s{\[)])", RULES[name]["expr"]))
    assert asked
    assert asked <= known


@pytest.mark.parametrize("name", RULES)
def test_an_alert_is_tested_both_ways(name: str) -> None:
    cases = [case for test in TESTED for case in test["alert_rule_test"] if case["alertname"] == name]
    fired = [case for case in cases if case["exp_alerts"]]
    assert fired, "no case in which it fires"
    assert len(fired) < len(cases), "no case in which it does not"


def test_no_test_is_of_an_alert_that_is_gone() -> None:
    assert {case["alertname"] for test in TESTED for case in test["alert_rule_test"]} == set(RULES)


def test_every_process_is_watched() -> None:
    [down] = re.findall(r'job=~"([^"]+)"', RULES["WapipeProcessDown"]["expr"])
    assert set(down.split("|")) == set(registry())
    missing = re.findall(r'job=~?"([^"]+)"', RULES["WapipeProcessMissing"]["expr"])
    assert {name for names in missing for name in names.split("|")} == set(registry())
