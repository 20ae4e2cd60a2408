"""Bad records, the short form: exactly they are set aside, each with its reason."""

from __future__ import annotations

from pathlib import Path

from tests.faults.poison import deadly, poison
from tests.faults.rig import Rig


async def test_bad_records_in_any_share_are_set_aside_alone(rig: Rig, tmp_path: Path) -> None:
    (await poison(rig, tmp_path)).check()


async def test_a_record_that_kills_the_process_is_set_aside_after_some_deaths(rig: Rig, tmp_path: Path) -> None:
    (await deadly(rig, tmp_path)).check()
