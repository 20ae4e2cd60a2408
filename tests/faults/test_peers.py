"""What every peer that was measured fails at, the short form."""

from __future__ import annotations

from pathlib import Path

from tests.faults.peers import database_away, hidden_records
from tests.faults.rig import Rig


async def test_one_bad_record_among_thousands_is_set_aside_alone(rig: Rig, tmp_path: Path) -> None:
    (await hidden_records(rig, tmp_path)).check()


async def test_the_database_away_for_20_s_under_load_costs_nothing(rig: Rig, tmp_path: Path) -> None:
    (await database_away(rig, tmp_path, 20)).check()
