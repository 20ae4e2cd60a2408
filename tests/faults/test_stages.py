"""A process ends in every stage of a batch, the short form."""

from __future__ import annotations

from pathlib import Path

from tests.faults.rig import Rig
from tests.faults.stages import stages


async def test_a_consumer_may_end_in_any_stage_of_a_batch(rig: Rig, tmp_path: Path) -> None:
    (await stages(rig, tmp_path)).check()
