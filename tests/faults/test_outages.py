"""Broker and database away under load, the short form: nothing is lost, dead-lettered or stuck."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.outages import Dependency, locked_out, outages
from tests.faults.rig import Rig


@pytest.mark.parametrize("dependency", ["broker", "database"])
async def test_a_dependency_may_go_in_any_way(rig: Rig, tmp_path: Path, dependency: Dependency) -> None:
    outcome, _ = await outages(rig, tmp_path, dependency, 5)
    outcome.check()


async def test_a_transaction_of_a_half_open_connection_locks_nobody_out(rig: Rig, tmp_path: Path) -> None:
    (await locked_out(rig, tmp_path)).check()
