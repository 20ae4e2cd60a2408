"""The consumer of numbers as an operating-system process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from pipeline.local.ports import free_port
from tests.integration.numbers import Desk
from tests.warm import inherited


@contextlib.asynccontextmanager
async def process(desk: Desk, log: Path, **more: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """The consumer as a process; killed with the block."""
    own = {"WAPIPE_METRICS_PORT": str(free_port()), **{f"WAPIPE_{n.upper()}": v for n, v in more.items()}}
    with log.open("ab") as out:
        started = await asyncio.create_subprocess_exec(
            *desk.command, env=inherited() | desk.environment | own, stdout=out, stderr=out
        )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
            await started.wait()
