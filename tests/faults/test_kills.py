"""kill -9 under traffic, the short form: nothing answered 2xx is lost, nothing is doubled."""

from __future__ import annotations

from pathlib import Path

from tests.faults.kills import kills
from tests.faults.rig import Rig


async def test_two_hundred_kills_lose_and_double_nothing(rig: Rig, tmp_path: Path) -> None:
    outcome = await kills(rig, tmp_path, 200)
    outcome.check()
