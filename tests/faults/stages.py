"""SIGTERM, SIGTERM twice and kill -9 in every stage of a batch, one process after the other under traffic."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path

from tests.faults.driver import driving
from tests.faults.outcome import Outcome
from tests.faults.rig import Rig
from tests.faults.staged import STAGES

# How a process ends on it: drained; aborted, as the second SIGTERM is meant; killed.
ENDS: dict[tuple[str, ...], int] = {
    ("SIGTERM",): 0,
    ("SIGTERM", "SIGTERM"): 128 + signal.SIGTERM,
    ("SIGKILL",): -signal.SIGKILL,
}


async def stages(
    rig: Rig, logs: Path, *, signals: Sequence[tuple[str, ...]] = (("SIGTERM",), ("SIGKILL",)), rate_per_s: float = 60.0
) -> Outcome:
    """Each process ends in its stage; the next one goes on. A twentieth of the traffic is bad, for the dead letters."""
    async with (
        rig.site(logs, "gateway", "contacts", "sessions") as site,
        driving(site, rate_per_s=rate_per_s, bad=0.05) as driver,
    ):
        for stage in STAGES:
            for numbers in signals:
                await driver.progress(20)  # something to do for the next one
                # A static id: the next process has its partitions at once, also after kill -9.
                member = await site.add(
                    "messages", module="tests.faults.staged", arguments=(stage, *numbers), keep=False,
                    WAPIPE_INSTANCE_ID="staged",
                )  # fmt: skip
                status = await member.ended()
                # A stage that was not reached leaves a process that never ends, and the wait for it fails.
                assert status == ENDS[numbers], f"{stage}, {numbers}: {status}, {member.tail()}"
        await site.add("messages", WAPIPE_INSTANCE_ID="staged")
        await driver.progress(50, 50)
        outcome = await driver.finish(f"{', '.join('+'.join(s) for s in signals)} in {len(STAGES)} stages of a batch")
        assert site.strange_ends() == {}
    return outcome
