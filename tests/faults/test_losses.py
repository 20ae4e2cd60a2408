"""What must be said rather than healed, and clocks that nothing may depend on; the short form."""

from __future__ import annotations

from pathlib import Path

from tests.faults.clocks import clocks
from tests.faults.retention import retention
from tests.faults.rig import Rig
from tests.faults.spool import full_disk


async def test_records_that_retention_deleted_unread_are_counted(rig: Rig, tmp_path: Path) -> None:
    (await retention(rig, tmp_path)).check()


async def test_a_clock_that_is_wrong_by_a_day_loses_nothing(rig: Rig, tmp_path: Path) -> None:
    for outcome in await clocks(rig, tmp_path):
        outcome.check()


async def test_a_full_disk_under_the_spool_refuses_and_loses_nothing(rig: Rig, tmp_path: Path) -> None:
    (await full_disk(rig, tmp_path)).check()
