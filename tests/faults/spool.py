"""The disk under the ingress' spool is full while the broker is away: refused with 503, never answered 2xx and lost."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.faults.driver import driving
from tests.faults.outcome import Outcome
from tests.faults.rig import PATIENCE_S, Rig
from tests.site import until
from tests.stack import NOT_COVERED

_DISK_BYTES = 512 * 1024


async def full_disk(rig: Rig, logs: Path, *, rate_per_s: float = 100.0) -> Outcome:
    """Without the broker events fill the spool; when it is back the spool drains and WAHA's retries bring the rest."""
    folder = logs / "small-disk"
    with _small_disk(folder) as full:
        limit = {} if full == "disk" else {"WAPIPE_SPOOL_MAX_BYTES": str(_DISK_BYTES)}
        async with (
            rig.site(
                logs, "gateway", "messages", "contacts", "sessions", WAPIPE_SPOOL_DIR=str(folder / "spool"), **limit
            ) as site,
            driving(site, rate_per_s=rate_per_s) as driver,
        ):  # fmt: skip
            gateway = site.members["gateway"]
            await driver.progress(100, 100)
            await site.broker_proxy.set("cut")

            async def refused() -> float | None:
                return await gateway.metric(f'wapipe_spool_refused_total{{reason="{full}"}}') or None

            await until(refused, "the spool to be full", PATIENCE_S)
            status, said = await gateway.status()
            assert status == 503, said
            spooled = await gateway.metric("wapipe_spooled_total ")
            await site.broker_proxy.set("pass")
            await gateway.ready()
            assert await gateway.metric("wapipe_spool_records ") == 0
            await driver.progress(100, 100)
            outcome = await driver.finish(f"the spool's {'disk' if full == 'disk' else 'size cap'} is full")
            assert site.strange_ends() == {}
        assert driver.report.answers[503] > 0
    outcome.notes["spooled"] = f"{spooled:.0f}"
    return outcome


@contextlib.contextmanager
def _small_disk(folder: Path) -> Iterator[str]:
    """A file system of half a megabyte where that may be had; answers the reason with which the spool will refuse."""
    folder.mkdir()
    options = f"size={_DISK_BYTES},uid={os.geteuid()}"
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, check=False
    )
    if made.returncode:
        NOT_COVERED.append("a full disk under the spool: a file system cannot be mounted here; its size cap was filled")
    try:
        yield "full" if made.returncode else "disk"
    finally:
        if not made.returncode:
            subprocess.run(["umount", str(folder)], check=True)
