"""`wapipe run`: one or several processes of the pipeline in this operating-system process."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from pipeline.cli import run_async
from pipeline.lifecycle import install_signals, tune_gc
from pipeline.logs import setup_logging
from pipeline.process import Process
from pipeline.registry import select
from pipeline.settings import Settings, load_settings


def run(
    names: Annotated[
        list[str],
        typer.Argument(help="gateway, ingress, api, messages, contacts, sessions, media; or all", metavar="NAME…"),
    ],
) -> None:
    """Run processes of the pipeline until SIGTERM; a second SIGTERM aborts.

    Each serves /health, /ready and /metrics: gateway (webhook and API) on 4011, ingress 4012, messages 4021,
    contacts 4022, sessions 4023, media 4024; WAPIPE_METRICS_PORT moves a consumer's. Scale a consumer by starting it
    again elsewhere.

    Examples:

      wapipe run all                  a small site in one process

      wapipe run messages             one consumer

      WAPIPE_METRICS_PORT=4031 wapipe run messages      a second one on the same machine

    Exit codes: 0 after SIGTERM, 70 broken invariant or a stop that did not end, 78 configuration.
    """
    settings = load_settings()
    chosen = select(names)
    setup_logging(settings.log.level)
    run_async(_run(chosen, settings))


async def _run(chosen: list[Process], settings: Settings) -> None:
    stop = install_signals()
    mains = [p.load() for p in chosen]
    tune_gc()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(m(settings), name=p.name) for m, p in zip(mains, chosen, strict=True)]
        # A process that ends by itself takes the others along.
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        stop.set()
