"""The fault tests' own broker and database: they are killed, cut and stopped, and nobody else's may be."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.faults.rig import Rig


@pytest.fixture(scope="package")
async def rig() -> AsyncIterator[Rig]:
    """Started once for all fault tests; each heals it at its end."""
    made = Rig()
    try:
        await made.start()
        yield made
    finally:
        await made.stop()
