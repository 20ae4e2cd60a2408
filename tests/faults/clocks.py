"""WAHA's clock is wrong by a day, either way: its times are kept as they are, and nothing depends on them."""

from __future__ import annotations

from pathlib import Path

from tests.faults.driver import driving
from tests.faults.outcome import Outcome
from tests.faults.rig import Rig

_DAY_MS = 24 * 3600 * 1000


async def clocks(rig: Rig, logs: Path, *, count: int = 300, rate_per_s: float = 60.0) -> list[Outcome]:
    """A WAHA that is a day ahead and one that is a day behind send to the same site at once."""
    async with rig.site(logs, "gateway", "messages", "contacts", "sessions") as site:
        async with (
            driving(site, rate_per_s=rate_per_s, shift_ms=_DAY_MS) as ahead,
            driving(site, rate_per_s=rate_per_s, shift_ms=-_DAY_MS) as behind,
        ):
            await ahead.progress(count)
            await behind.progress(count)
            await ahead.quiet()
            outcomes = [await behind.finish("WAHA a day behind"), await ahead.finish("WAHA a day ahead")]
            late = await site.members["gateway"].metric("wapipe_ingress_late_total ")
            assert late >= behind.delivered - outcomes[0].bad, late
        assert site.strange_ends() == {}
    return outcomes
