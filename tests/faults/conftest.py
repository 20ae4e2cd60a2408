"""The fault tests' own broker and database: they are killed, cut and stopped, and nobody else's may be."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.faults.rig import Rig

_TIMEOUT_S = 1800  # every wait inside is bounded; this is for machines that are busy with something else


@pytest.fixture(scope="package")
async def rig() -> AsyncIterator[Rig]:
    """Started once for all fault tests; each heals it at its end."""
    made = Rig()
    try:
        await made.start()
        yield made
    finally:
        await made.stop()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A longer limit than other tests have."""
    for item in items:
        if "rig" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(_TIMEOUT_S))
