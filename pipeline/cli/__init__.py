"""The command `wapipe`: one file a group of commands, registered here; errors become sentences and exit codes.

Exit codes: 0 done, 1 failed (it says what), 2 wrong usage, 3 not running, 70 a broken invariant, 75 a dependency is away
(try again), 78 a configuration that cannot work, 130 interrupted.
"""

from __future__ import annotations

import asyncio
import importlib
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


# Command -> "module:attribute" below this package; of a group the attribute is a Typer.
_COMMANDS = {
    "up": "stack:up", "down": "stack:down", "status": "stack:status", "demo": "demo:demo", "run": "process:run",
    "migrate": "schema:migrate", "topics": "schema:topics", "config": "config:config", "simulate": "simulate:simulate",
    "simulate-waha": "simulate_waha:simulate_waha", "ledger": "books:ledger", "replay": "replay:replay",
    "spool": "spool:spool", "dlq": "dlq:dlq", "media": "media:media", "sync": "sync:sync", "waha": "waha:waha",
}  # fmt: skip


@app.callback()
def _wapipe() -> None:
    """Makes Typer ask for a command's name also where only one is registered."""


def _register(wanted: str) -> None:
    """The command `wanted` alone, since importing all of them costs each process 0.15 s; all when it is none of them."""
    for name in [wanted] if wanted in _COMMANDS else _COMMANDS:
        module, _, attribute = _COMMANDS[name].partition(":")
        target = getattr(importlib.import_module(f"{__name__}.{module}"), attribute)
        if isinstance(target, typer.Typer):
            app.add_typer(target, name=name)
        else:
            app.command(name)(target)


def main() -> None:
    """Entry point."""
    _register(sys.argv[1] if len(sys.argv) > 1 else "")
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
