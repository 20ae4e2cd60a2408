"""All processes, by name. Knows none by itself: consumers and producers register theirs by a line in their package
(`consumers.PROCESSES`, `producers.PROCESSES`), whose targets are imported only when a process starts.
"""

from __future__ import annotations

import importlib

from pipeline.errors import ConfigError
from pipeline.process import Process


def registry() -> dict[str, Process]:
    """All processes by name, in the order in which they are started."""
    found: list[Process] = []
    for package in ("producers", "consumers"):
        found += importlib.import_module(package).PROCESSES
    return {p.name: p for p in found}


def consumer_names() -> list[str]:
    """Every consumer that is registered: each has a dead-letter topic of its own."""
    return [p.name for p in importlib.import_module("consumers").PROCESSES]


def select(names: list[str]) -> list[Process]:
    """The named processes; `all` stands for every one that belongs to a small site. Raises ConfigError."""
    known = registry()
    if names == ["all"]:
        return [p for p in known.values() if p.part_of_all]
    for name in names:
        if name not in known:
            raise ConfigError(f"no process is called {name!r}; there are: all, {', '.join(known)}")
    return [known[n] for n in dict.fromkeys(names)]
