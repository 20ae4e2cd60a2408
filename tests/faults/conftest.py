"""The figures of the fault tests, printed at the end of the run also when all is well."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

_FIGURES: list[str] = []


@pytest.fixture(scope="session")
def record_figures() -> list[str]:
    """Lines to print at the end of the run."""
    return _FIGURES


@pytest.hookimpl(wrapper=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    """A section of its own."""
    if _FIGURES:
        terminalreporter.section("faults")
        for line in _FIGURES:
            terminalreporter.write_line(line)
    yield
