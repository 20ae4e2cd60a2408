"""`wapipe replay`: a range of the topics through a consumer once more. The work is done in pipeline.replay."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Coroutine
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from typer.core import TyperGroup

from pipeline.cli import replay_print, run_async
from pipeline.consumer import Consumer
from pipeline.errors import ConfigError
from pipeline.lifecycle import install_signals, tune_gc
from pipeline.logs import setup_logging
from pipeline.postgres import Pool, open_pool
from pipeline.registry import select
from pipeline.replay import run
from pipeline.replay.orders import Order, ask_to_stop, forget, read_order, read_orders
from pipeline.replay.outcome import Outcome
from pipeline.replay.run import Job
from pipeline.replay.shadow import Scratch, scratch_schemas
from pipeline.replay.spec import Bound, Spec, parse_bound
from pipeline.settings import Settings, load_settings, require_secret
from schemas.ids import to_chat

T = TypeVar("T")
_INTERRUPTED = 130
_NOT_RUNNING = 3
_NICE = 10  # a tenth of the CPU time of a live process, where they want the same
_START = "start"


class _StartByDefault(TyperGroup):
    """`wapipe replay messages …` means `wapipe replay start messages …`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Puts the word in when the first one is no command of ours."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [_START, *args]
        return super().parse_args(ctx, args)


replay = typer.Typer(
    cls=_StartByDefault,
    help="Read a range of the topics through a consumer once more. `wapipe replay CONSUMER` starts one.",
    no_args_is_help=True,
)
out = Console(highlight=False, markup=False)

Json = Annotated[bool, typer.Option("--json", help="Machine-readable result on stdout.")]
Number = Annotated[int, typer.Argument(help="The replay's number, as `list` shows it.", metavar="ID")]
Nice = Annotated[
    int, typer.Option("--nice", min=0, max=19, help="Where CPU is short, others go first; 0 competes with live.")
]
Rate = Annotated[
    float | None,
    typer.Option("--rate", min=0.1, help="Most records a second that the filters keep; no limit if unset."),
]


@replay.command(_START)
def start(
    consumer: Annotated[str, typer.Argument(help="A registered consumer: messages, contacts, sessions.")],
    *,
    topic: Annotated[list[str] | None, typer.Option(help="Only this topic of the consumer. May be repeated.")] = None,
    partition: Annotated[list[int] | None, typer.Option(min=0, help="Only this partition. May be repeated.")] = None,
    from_: Annotated[str | None, typer.Option("--from", metavar="TIME|OFFSET", help="Where to begin.")] = None,
    to: Annotated[str | None, typer.Option("--to", metavar="TIME|OFFSET", help="Where to end, not included.")] = None,
    session: Annotated[list[str] | None, typer.Option(help="Only this session. May be repeated.")] = None,
    chat: Annotated[list[str] | None, typer.Option(help="Only this chat: an id or a number. May be repeated.")] = None,
    event: Annotated[list[str] | None, typer.Option(help="Only events of this name. May be repeated.")] = None,
    rate: Rate = None,
    nice: Nice = _NICE,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and decode, write nothing.")] = False,
    shadow: Annotated[
        bool, typer.Option("--shadow", help="Write into a scratch schema, print the difference.")
    ] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the scratch schema.")] = False,
    as_json: Json = False,
) -> None:
    """Read a range of the topics through a consumer's own code once more (the word `start` may be left out).

    Rows that are there are merged with, never doubled; live consumption goes on beside it. Books of its own must balance.

    TIME is when the broker took a record: 2026-07-25T10:00 (UTC unless it says otherwise), or 90s, 30m, 2h, 7d ago.
    OFFSET counts in each partition. Without both, everything that the topics have until now.

    Ctrl-C or `wapipe replay stop` end it between two batches; `wapipe replay resume` goes on, after kill -9 too.

    Examples:

      wapipe replay messages --from 2h

      wapipe replay messages --from 2026-07-25 --to 2026-07-26 --session default --chat "+49 151 12345678"

      wapipe replay messages --topic waha.message --partition 3 --from 1200 --to 1300 --dry-run

      wapipe replay messages --from 7d --shadow

    Exit codes: 0 done and the books balance, 1 they differ, 2 wrong usage, 70 the topic was made anew or another process
    goes on with it, 75 broker or database away, 78 no such consumer or a missing topic, 130 stopped before the end.
    """
    settings, make = _settings(consumer)
    if keep and not shadow:
        raise typer.BadParameter("--keep is for --shadow")
    if dry_run and shadow:
        raise typer.BadParameter("--dry-run writes nothing, --shadow into a scratch schema: choose one")
    topics, events = run_async(run.describe(settings, make))
    if events is not None:
        _known(event, events, "--event", consumer)
    now_ms = time.time_ns() // 1_000_000
    spec = Spec(
        consumer, _known(topic, topics, "--topic", consumer) or tuple(topics), tuple(partition or ()),
        _bound(from_, now_ms, "--from"), _bound(to, now_ms, "--to"),
        tuple(session or ()), tuple(_chat(c) for c in chat or ()), tuple(event or ()), rate, shadow, keep,
    )  # fmt: skip
    if dry_run:
        rehearsal = _run(settings, make, nice, lambda job: run.rehearse(job, spec))
        replay_print.print_rehearsal(rehearsal, spec, out, as_json=as_json)
        raise typer.Exit(0 if rehearsal.complete else _INTERRUPTED)
    _conclude(_run(settings, make, nice, lambda job: run.start(job, spec)), as_json)


@replay.command("resume")
def resume(replay_id: Number, rate: Rate = None, nice: Nice = _NICE, as_json: Json = False) -> None:
    """Go on with a replay that was stopped, failed or killed, where its books stand. Another --rate may be given.

    Example: wapipe replay resume 7

    Exit codes: as `wapipe replay start`; 78 also when it is done, is running, or there is none of this number.
    """
    settings = _ready()
    order = run_async(_order(settings, replay_id))
    _, make = _settings(order.consumer)
    _conclude(_run(settings, make, nice, lambda job: run.resume(job, replay_id, rate)), as_json)


@replay.command("list")
def list_replays(as_json: Json = False) -> None:
    """List replays: how far each is, whether a process works on it, and scratch schemas that were left over.

    A replay whose process died is `dead`: `wapipe replay resume` goes on with it.

    Example: wapipe replay list --json

    Exit codes: 0 done, 75 database away, 78 a database that needs `wapipe migrate`.
    """
    orders, schemas = run_async(_everything(_ready()))
    replay_print.print_orders(orders, schemas, out, as_json=as_json)


@replay.command("stop")
def stop(replay_id: Number) -> None:
    """Ask a running replay to end after the batch in hand, on whatever machine it runs. It can be resumed.

    Example: wapipe replay stop 7

    Exit codes: 0 asked, 3 it is not running, 75 database away, 78 there is none of this number.
    """
    settings = _ready()
    order = run_async(_order(settings, replay_id))
    if order.shown_state not in ("running", "stopping", "dead"):
        out.print(f"replay {replay_id} is not running: it is {order.state}")
        raise typer.Exit(_NOT_RUNNING)
    run_async(_with_pool(settings, lambda pool: ask_to_stop(pool, order)))
    at = f"process {order.pid} on {order.host}"
    out.print(f"{at} will stop within seconds" if order.held else f"{at} was dead already; marked as stopped")


@replay.command("drop")
def drop(replay_id: Number) -> None:
    """Forget a replay that is not running: its books, and its scratch schema if it left one. Replayed rows stay.

    Example: wapipe replay drop 7

    Exit codes: 0 done, 75 database away, 78 it is running, or there is nothing of this number.
    """
    settings = _ready()
    orders, schemas = run_async(_everything(settings))
    order = next((o for o in orders if o.id == replay_id), None)
    if order is None and replay_id not in schemas:
        raise ConfigError(f"there is no replay {replay_id}. `wapipe replay list` shows them")
    if order is not None and order.held:
        raise ConfigError(f"replay {replay_id} is running. End it first: wapipe replay stop {replay_id}")
    run_async(Scratch(settings.database, replay_id).drop())
    if order is not None:
        run_async(_with_pool(settings, lambda pool: forget(pool, order)))
    out.print(
        f"replay {replay_id} is forgotten" + (f", schema {schemas[replay_id]} dropped" if replay_id in schemas else "")
    )


def _ready() -> Settings:
    settings = load_settings()
    setup_logging("ERROR")  # the progress line says what is waited for
    require_secret(settings.database.password, "WHATSAPP_DB_PASSWORD", "the database is reached with it")
    return settings


def _settings(consumer: str) -> tuple[Settings, Callable[[Pool], Consumer[Any]]]:
    [process] = select([consumer])
    if not process.maker:
        raise ConfigError(f"{consumer} reads no topics: only consumers can be replayed")
    return _ready(), process.make_consumer


def _known(chosen: list[str] | None, known: Collection[str], option: str, consumer: str) -> tuple[str, ...]:
    strange = [name for name in chosen or () if name not in known]
    if strange:
        raise typer.BadParameter(f"{option} {strange[0]}: {consumer} reads {', '.join(sorted(known))}")
    return tuple(dict.fromkeys(chosen or ()))


def _bound(text: str | None, now_ms: int, option: str) -> Bound:
    try:
        return parse_bound(text, now_ms) if text is not None else Bound()
    except ValueError as exc:
        raise typer.BadParameter(f"{option}: {exc}") from exc


def _chat(text: str) -> str:
    chat = to_chat(text)
    if chat is None:
        raise typer.BadParameter(f"--chat {text!r} is neither an id (…@c.us, …@g.us, …@lid) nor a phone number")
    return chat


def _run(
    settings: Settings,
    make: Callable[[Pool], Consumer[Any]],
    nice: int,
    work: Callable[[Job], Coroutine[Any, Any, T]],
) -> T:
    """Runs a replay with signals and something to look at."""
    if hasattr(os, "nice"):  # not on Windows
        os.nice(nice)

    async def run_it() -> T:
        job = Job(settings, make, install_signals())
        tune_gc()
        async with replay_print.shown(job.watched):
            return await work(job)

    return run_async(run_it())


def _conclude(outcome: Outcome, as_json: bool) -> None:
    replay_print.print_outcome(outcome, out, as_json=as_json)
    if outcome.state == "stopped":
        raise typer.Exit(_INTERRUPTED)
    if outcome.state == "failed":
        raise typer.Exit(1)


async def _with_pool(settings: Settings, work: Callable[[Pool], Coroutine[Any, Any, T]]) -> T:
    async with await open_pool(settings.database, name="replay", max_size=1) as pool:
        return await work(pool)


async def _order(settings: Settings, replay_id: int) -> Order:
    return await _with_pool(settings, lambda pool: read_order(pool, replay_id))


async def _everything(settings: Settings) -> tuple[list[Order], dict[int, str]]:
    async with await open_pool(settings.database, name="replay", max_size=1) as pool:
        return await read_orders(pool), await scratch_schemas(pool)
