"""The command `wapipe`: one file a group of commands, registered here; errors become sentences and exit codes.

Exit codes: 0 done, 1 failed (it says what), 2 wrong usage, 3 not running, 70 a broken invariant, 75 a dependency is away
(try again), 78 a configuration that cannot work, 130 interrupted.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

import typer
from rich.console import Console

from pipeline.errors import ConfigError, FatalError, TransientError, WapipeError

T = TypeVar("T")
EXIT_UNAVAILABLE = 75

errors = Console(stderr=True, highlight=False)

app = typer.Typer(
    name="wapipe",
    help="A WhatsApp event pipeline behind WAHA: signed webhooks into Kafka, Kafka into TimescaleDB.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine on uvloop where it is installed."""
    try:
        import uvloop  # noqa: PLC0415 - absent on Windows
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)


def _register() -> None:
    from pipeline.cli import (  # noqa: PLC0415
        books,
        config,
        demo,
        dlq,
        media,
        process,
        replay,
        schema,
        simulate,
        simulate_waha,
        spool,
        stack,
        sync,
        waha,
    )

    app.command()(stack.up)
    app.command()(stack.down)
    app.command()(stack.status)
    app.command()(demo.demo)
    app.command()(process.run)
    app.command()(schema.migrate)
    app.add_typer(schema.topics, name="topics")
    app.add_typer(config.config, name="config")
    app.command()(simulate.simulate)
    app.command("simulate-waha")(simulate_waha.simulate_waha)
    app.command()(books.ledger)
    app.add_typer(replay.replay, name="replay")
    app.add_typer(spool.spool, name="spool")
    app.add_typer(dlq.dlq, name="dlq")
    app.add_typer(media.media, name="media")
    app.add_typer(sync.sync, name="sync")
    app.add_typer(waha.waha, name="waha")


def main() -> None:
    """Entry point."""
    _register()
    try:
        app()
    except BaseExceptionGroup as group:
        _fail(_first(group))
    except (WapipeError, KeyboardInterrupt) as exc:
        _fail(exc)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that ended a group of tasks: ours before others, never a mere cancellation."""
    leaves: list[BaseException] = []

    def collect(inner: BaseExceptionGroup[BaseException]) -> None:
        for exc in inner.exceptions:
            if isinstance(exc, BaseExceptionGroup):
                collect(exc)
            else:
                leaves.append(exc)

    collect(group)
    return next((e for e in leaves if isinstance(e, WapipeError)), leaves[0])


def _fail(exc: BaseException) -> None:
    """One sentence on stderr and the exit code that says what kind of failure it is."""
    if isinstance(exc, KeyboardInterrupt):
        sys.exit(130)
    if not isinstance(exc, WapipeError):
        raise exc
    code = 1
    if isinstance(exc, ConfigError | FatalError):
        code = exc.exit_code
    elif isinstance(exc, TransientError):
        code = EXIT_UNAVAILABLE
    errors.print("wapipe:", style="bold red", end=" ")
    errors.print(str(exc), markup=False, soft_wrap=True)
    sys.exit(code)
