"""What `wapipe run` can start: a name, where its code is, its port. `pipeline.registry` has them all."""

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
