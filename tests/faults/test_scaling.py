"""Processes and partitions come and go under traffic, the short form."""

from __future__ import annotations

from pathlib import Path

from tests.faults.rig import Rig
from tests.faults.scaling import grow, rolling_restart, same_id, scale


async def test_a_rolling_restart_of_all_loses_nothing(rig: Rig, tmp_path: Path) -> None:
    (await rolling_restart(rig, tmp_path)).check()


async def test_consumers_scale_out_and_in(rig: Rig, tmp_path: Path) -> None:
    (await scale(rig, tmp_path)).check()


async def test_partitions_grow_under_load(rig: Rig, tmp_path: Path) -> None:
    (await grow(rig, tmp_path)).check()


async def test_a_second_process_with_a_static_id_says_so_and_goes(rig: Rig, tmp_path: Path) -> None:
    (await same_id(rig, tmp_path)).check()
