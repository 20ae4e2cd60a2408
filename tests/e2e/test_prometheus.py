"""A real Prometheus with the shipped configuration scrapes a running site: every target is found, the numbers arrive, and
no rule finds anything in a healthy run - neither live, nor when what was recorded is played to promtool as hours."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from pipeline.local.child import running as child_running
from pipeline.local.ports import free_port
from pipeline.local.prometheus import Tools, prometheus_service
from producers.simulator import Profile, Report, Target, play, traffic
from tests.site import Site, end_process, running, until

SHIPPED = Path(__file__).parents[2] / "deploy" / "prometheus"
JOBS = ("gateway", "messages", "contacts", "media", "sessions", "sync")
_STRETCH_S = 15  # a second of the run becomes one scrape of the shipped configuration
_QUIET_SCRAPES = 240  # an hour after it in which nothing happens


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running server."""

    http: httpx.AsyncClient

    async def ask(self, path: str, **parameters: Any) -> Any:
        """The data of an answer of its API."""
        answer = await self.http.get(f"/api/v1/{path}", params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    async def number(self, query: str) -> float | None:
        """The one value of a query; None without one."""
        found = (await self.ask("query", query=query))["result"]
        return float(found[0]["value"][1]) if found else None


@pytest.fixture(scope="module")
async def site(servers: Any, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    from tests.conftest import make_environment

    environment = await make_environment(servers) | {"WHATSAPP_SYNC_ENABLED": "false"}  # there is no WAHA
    async with running(environment, tmp_path_factory.mktemp("site"), *JOBS) as started:
        yield started


@pytest.fixture(scope="module")
async def server(prometheus: Tools, site: Site, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Prometheus]:
    """The shipped configuration, but for where the processes are and how often they are asked."""
    home = tmp_path_factory.mktemp("prometheus")
    shutil.copy(SHIPPED / "rules.yml", home)
    config = yaml.safe_load((SHIPPED / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    config["scrape_configs"] = [jobs[name] for name in JOBS]
    for name in JOBS:
        del jobs[name]["dns_sd_configs"]
        jobs[name]["static_configs"] = [{"targets": [f"127.0.0.1:{site.ports[name]}"]}]
    (home / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    service = prometheus_service(prometheus.prometheus, home / "prometheus.yml", data=home / "data", port=port, env={})
    async with child_running(service, home), httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
        yield Prometheus(http)


async def test_a_healthy_site_is_seen_whole_and_raises_no_alarm(
    server: Prometheus, prometheus: Tools, site: Site, tmp_path: Path
) -> None:
    await until(lambda: _all_up(server), "every target to be up")
    began = time.time()
    report = await _traffic(site, deliveries=600, rate_per_s=60)
    ledger = await site.settled(report.delivered)

    async def arrived() -> bool | None:
        seen = await server.number("sum(wapipe_records_total)")
        lag = await server.number("sum(wapipe_lag_records)")
        answered = await server.number('sum(wapipe_ingress_answers_total{code="200"})')
        told = (seen, lag, answered) == (sum(line.records for line in ledger.lines), 0, report.delivered)
        return True if told else None

    await until(arrived, "the last numbers to be scraped")
    for line in ledger.lines:
        query = f'sum(wapipe_records_total{{consumer="{line.consumer}", job="{line.consumer}", outcome="written"}})'
        assert await server.number(query) == line.written
    assert await server.number("max(wapipe_books_difference_records)") == 0
    memory = await server.number("min(process_resident_memory_bytes)")
    assert memory is not None
    assert memory > 2e7

    evaluated = time.time()
    rules = await until(lambda: _rules_after(server, evaluated), "the rules to be evaluated over all of it")
    assert {r["name"] for r in rules} == {r["alert"] for r in _shipped_rules()}
    assert {r["name"]: r["lastError"] for r in rules if r["health"] != "ok"} == {}
    assert {r["name"]: r["alerts"] for r in rules if r["state"] != "inactive"} == {}

    series = await _recorded(server, began, time.time())
    assert len(series) > 300
    said, code = await _play_to_promtool(prometheus, series, tmp_path)
    assert code == 0, said
    # The same run would not pass with a fault in it: the test can fail.
    broken = [s for s in series if "wapipe_books_difference_records" in s["series"]]
    broken[0]["values"] = broken[0]["values"].replace("0x", "1x")
    said, code = await _play_to_promtool(prometheus, series, tmp_path)
    assert code != 0
    assert "WapipeBooksDiffer" in said


async def test_a_process_that_ends_is_noticed(server: Prometheus, site: Site) -> None:
    await until(lambda: _all_up(server), "every target to be up")
    await end_process(site.processes["contacts"])

    async def pending() -> list[dict[str, Any]] | None:
        alerts = (await server.ask("alerts"))["alerts"]
        return alerts or None

    alerts = await until(pending, "an alert")
    assert [(a["labels"]["alertname"], a["labels"]["job"], a["state"]) for a in alerts] == [
        ("WapipeProcessDown", "contacts", "pending")
    ]


def _shipped_rules() -> list[dict[str, Any]]:
    [group] = yaml.safe_load((SHIPPED / "rules.yml").read_text())["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


async def _all_up(server: Prometheus) -> bool | None:
    targets = (await server.ask("targets"))["activeTargets"]
    up = {t["labels"]["job"] for t in targets if t["health"] == "up"}
    return True if up == set(JOBS) else None


async def _rules_after(server: Prometheus, moment: float) -> list[dict[str, Any]] | None:
    """All rules, once each was evaluated after `moment`."""
    [group] = (await server.ask("rules"))["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    evaluated = [datetime.fromisoformat(r["lastEvaluation"]).timestamp() for r in rules]
    return rules if min(evaluated) > moment else None


async def _traffic(site: Site, *, deliveries: int, rate_per_s: float) -> Report:
    """What WAHA sends of two busy sessions; everything is answered 200."""
    key = site.settings.ingress.hmac_key
    assert key is not None
    profile = Profile(rate_per_s=rate_per_s, count=deliveries, sessions=2, chats=12, media=0, seed=3)
    target, report = Target(f"{site.settings.origin}/webhook", key.get_secret_value()), Report()
    await play(traffic(profile, start_ms=time.time_ns() // 1_000_000), target, rate_per_s=rate_per_s, report=report)
    assert (report.lost, report.unfinished) == (0, 0)
    return report


async def _recorded(server: Prometheus, start: float, end: float) -> list[dict[str, str]]:
    """Every series of ours as promtool reads it: one value a second of the run, then the last one for ever."""
    found = await server.ask(
        "query_range", query='{__name__=~"wapipe_.*|up", __name__!~".*_bucket"}', start=start, end=end, step=1
    )
    return [{"series": _notation(s["metric"]), "values": _values(s["values"], start)} for s in found["result"]]


def _notation(labels: dict[str, str]) -> str:
    inside = ", ".join(f'{k}="{v}"' for k, v in labels.items() if k != "__name__")
    return f"{labels['__name__']}{{{inside}}}"


def _values(points: list[list[Any]], start: float) -> str:
    """Prometheus' series notation: runs of one value as `VxN` (N more of it), `_` for no sample yet."""
    out = ["_"] * round(points[0][0] - start)
    for (at, value), (following, _) in pairwise([*points, [points[-1][0] + _QUIET_SCRAPES, ""]]):
        out.append(f"{value}x{round(following - at) - 1}")
    return " ".join(out)


async def _play_to_promtool(tools: Tools, series: list[dict[str, str]], folder: Path) -> tuple[str, int | None]:
    """What promtool says when no alert may fire at any minute."""
    names = [rule["alert"] for rule in _shipped_rules()]
    document = {
        "rule_files": [str(SHIPPED / "rules.yml")],
        "evaluation_interval": "15s",
        "tests": [
            {
                "interval": f"{_STRETCH_S}s",
                "input_series": series,
                "alert_rule_test": [
                    {"alertname": name, "eval_time": f"{minute}m", "exp_alerts": []}
                    for minute in range(0, 60, 3)
                    for name in names
                ],
            }
        ],
    }
    path = folder / "healthy.yml"
    path.write_text(yaml.safe_dump(document))
    process = await asyncio.create_subprocess_exec(
        tools.promtool, "test", "rules", str(path), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    return said.decode(), process.returncode
