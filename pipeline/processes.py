"""The registry of processes that `wapipe run` can start: name, where its code is, its port. Knows none by itself.

Consumers and producers register themselves by a line in their package (`consumers.PROCESSES`, `producers.PROCESSES`);
targets are dotted names, imported only when the process starts.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, cast

from pipeline.consumer import Consumer
from pipeline.errors import ConfigError
from pipeline.postgres import Pool
from pipeline.settings import Settings

Main = Callable[[Settings], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Process:
    """One startable process. `target` is "module:coroutine function taking Settings"; `port` serves its health.

    `maker`, of those that read topics, is what makes the Consumer of a pool, in the same module: tools run its code too.
    """

    name: str
    target: str
    port: int
    summary: str
    maker: str = ""
    part_of_all: bool = True  # started by `run all` and `wapipe up`

    def load(self) -> Main:
        """Imports the code. The coroutine runs until SIGTERM or until it fails."""
        return cast(Main, self._named(self.target.partition(":")[2]))

    def make_consumer(self, pool: Pool) -> Consumer[Any]:
        """The consumer itself, without its process. Raises ConfigError when this process reads no topics."""
        if not self.maker:
            raise ConfigError(f"{self.name} is no consumer")
        return cast(Callable[[Pool], Consumer[Any]], self._named(self.maker))(pool)

    def _named(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self.target.partition(":")[0]), attribute)


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
