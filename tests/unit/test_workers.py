"""Several test workers: each knows what is required and has ports of its own, and what they say at the end comes together."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.local import ports
from tests import conftest


def _configured(monkeypatch: pytest.MonkeyPatch, number: int, require: set[str]) -> tuple[set[str], range]:
    """What a worker knows after its start: what is required, and its ports."""
    node = SimpleNamespace(workerinput={"workerid": f"gw{number}", "workercount": 3})
    with monkeypatch.context() as patched:
        patched.setattr(conftest, "REQUIRE", require)
        conftest.pytest_configure_node(node)
        learnt = set[str]()
        patched.setattr(conftest, "REQUIRE", learnt)
        patched.setattr(ports, "_LOW", 20_000)
        patched.setattr(ports, "_HIGH", 32_000)
        conftest.pytest_configure(_as_config(node))
        return learnt, range(ports._LOW, ports._HIGH)


def _as_config(told: Any) -> pytest.Config:
    return told  # type: ignore[no-any-return]


def test_a_worker_knows_what_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _configured(monkeypatch, 1, {"timescaledb"})[0] == {"timescaledb"}
    assert _configured(monkeypatch, 1, set())[0] == set()


def test_no_two_workers_choose_from_the_same_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = [_configured(monkeypatch, number, set())[1] for number in range(3)]
    assert shares == [range(20_000, 24_000), range(24_000, 28_000), range(28_000, 32_000)]


def test_what_a_worker_says_reaches_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = SimpleNamespace(workeroutput=dict[str, Any](), workerinput={})
    with monkeypatch.context() as patched:
        patched.setattr(conftest, "FIGURES", {"plans": ["fast"]})
        patched.setattr(conftest, "NOT_COVERED", ["a disk"])
        conftest.pytest_sessionfinish(SimpleNamespace(config=worker))  # type: ignore[arg-type]
    monkeypatch.setattr(conftest, "FIGURES", defaultdict[str, list[str]](list, plans=["slow"]))
    lines = list[str]()
    monkeypatch.setattr(conftest, "NOT_COVERED", lines)
    conftest.pytest_testnodedown(worker, None)
    assert conftest.FIGURES == {"plans": ["slow", "fast"]}
    assert lines == ["a disk"]
    conftest.pytest_testnodedown(SimpleNamespace(), "it died")


def test_long_files_come_first_in_a_worker() -> None:
    items: list[Any] = [SimpleNamespace(path=Path(f"/x/tests/{d}/test_a.py")) for d in ("unit", "e2e")]
    conftest.pytest_collection_modifyitems(_as_config(SimpleNamespace()), items)
    assert [i.path.parent.name for i in items] == ["unit", "e2e"]
    conftest.pytest_collection_modifyitems(_as_config(SimpleNamespace(workerinput={})), items)
    assert [i.path.parent.name for i in items] == ["e2e", "unit"]
