"""`wapipe simulate`: plays a WAHA that posts signed webhooks, and reports the answers.

The simulator itself is producers.simulator; it is imported by name only, since imports flow down from
producers.
"""

from __future__ import annotations

import asyncio
import importlib
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from typing import Annotated, Any, Protocol, cast

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from pipeline.cli import run_async
from pipeline.errors import ConfigError
from pipeline.settings import Settings, load_settings, require_secret

out = Console(highlight=False)
notes = Console(stderr=True, highlight=False)

_ENGINES = "WEBJS,WPP,NOWEB,GOWS"
_DEFAULT_COUNT = 1000
_TICK_S = 0.1  # of the progress bar


class Policy(StrEnum):
    """WAHA's retry policies."""

    constant = "constant"
    linear = "linear"
    exponential = "exponential"


class Report(Protocol):
    """producers.simulator.Report, as far as it is used here."""

    sent: int
    delivered: int
    lost: int
    unfinished: int
    retried: int
    errors: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """The whole report."""


class Simulator(Protocol):
    """producers.simulator, as far as it is used here."""

    Profile: Callable[..., Any]
    Target: Callable[..., Any]
    Retry: Callable[..., Any]
    Report: Callable[[], Report]
    traffic: Callable[..., Iterable[Any]]
    recorded: Callable[..., Iterable[Any]]
    play: Any


@dataclass(frozen=True, slots=True)
class _Run:
    """What is played, where and how: everything that the options decide."""

    deliveries: Iterable[Any]
    total: int
    target: Any
    options: dict[str, Any]


def _share(help_: str) -> Any:
    return typer.Option(min=0, max=1, help=help_, rich_help_panel="Traffic")


def _traffic(help_: str, **more: Any) -> Any:
    return typer.Option(help=help_, rich_help_panel="Traffic", **more)


def _client(help_: str, **more: Any) -> Any:
    return typer.Option(help=help_, rich_help_panel="Client", **more)


def simulate(  # noqa: PLR0917 - one parameter an option
    url: Annotated[str | None, typer.Option(help="The webhook; /webhook of the API's port if not given.")] = None,
    source: Annotated[str | None, typer.Option(help="Post to /webhook/SOURCE, signed with that source's key.")] = None,
    rate: Annotated[float, typer.Option(min=0, help="Deliveries a second; 0 is as fast as answers come.")] = 50.0,
    count: Annotated[int | None, typer.Option(min=0, help="Deliveries to make up; 1000 if not given.")] = None,
    duration_s: Annotated[float | None, typer.Option(min=0.001, help="Make up deliveries for so long.")] = None,
    recorded: Annotated[bool, typer.Option("--recorded", help="Play those of a real WAHA first.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON.")] = False,
    engines: Annotated[str, _traffic("Engines, comma separated; sessions take them in turn.")] = _ENGINES,
    sessions: Annotated[int, _traffic("Sessions: demo-01, demo-02, …", min=1, max=999)] = 4,
    chats: Annotated[int, _traffic("Chats of each session.", min=1, max=100_000)] = 20,
    media: Annotated[float, _share("Share of messages with a file.")] = 0.15,
    acks: Annotated[float, _share("Share of events that are acks.")] = 0.25,
    edits: Annotated[float, _share("Share of events that are edits.")] = 0.02,
    reactions: Annotated[float, _share("Share of events that are reactions.")] = 0.06,
    revokes: Annotated[float, _share("Share of events that are revokes.")] = 0.01,
    duplicates: Annotated[float, _share("Share of messages that are delivered once more.")] = 0.02,
    out_of_order: Annotated[float, _share("Share of deliveries that come late.")] = 0.03,
    seed: Annotated[int, _traffic("Same seed, same traffic (but for the time of day).")] = 1,
    concurrency: Annotated[int, _client("Requests at a time.", min=1, max=4096)] = 64,
    timeout_s: Annotated[float | None, _client("Longest request; WAHA has no limit.", min=0.001)] = None,
    retries: Annotated[int, _client("Retries of a delivery; 15 as WAHA.", min=0)] = 15,
    retry_delay_s: Annotated[float, _client("Delay of a retry; 2 as WAHA.", min=0)] = 2.0,
    retry_policy: Annotated[Policy, _client("How the delay grows.")] = Policy.constant,
) -> None:
    """Play a WAHA: post signed webhooks, made up or recorded, and report the answers.

    Everything but 2xx is tried again as WAHA does it, 15 times, 2 s apart.
    Signed with WHATSAPP_HOOK_HMAC_KEY, or the source's key of WAPIPE_SOURCE_HMAC_KEYS.
    Without a key the token WHATSAPP_WEBHOOK_TOKEN is sent.

    Examples:

      wapipe simulate --recorded --count 0

      wapipe simulate --rate 200 --duration-s 60 --sessions 8 --media 0.3

      wapipe simulate --engines NOWEB,GOWS --duplicates 0.2 --out-of-order 0.2 --json

    Exit codes: 0 all answered 2xx, 1 some lost, 2 wrong usage, 78 no key, 130 interrupted.
    """
    settings = load_settings()
    simulator = cast(Simulator, importlib.import_module("producers.simulator"))
    wanted = _DEFAULT_COUNT if count is None and duration_s is None else count
    if not rate and duration_s is not None:
        raise typer.BadParameter("--duration-s needs a --rate; without one give a --count")
    try:
        target = _target(simulator, settings, url, source)
        profile = simulator.Profile(
            rate_per_s=rate or 1000.0,
            duration_s=duration_s,
            count=wanted or None,
            engines=tuple(name.strip().upper() for name in engines.split(",") if name.strip()),
            sessions=sessions,
            chats=chats,
            media=media,
            acks=acks,
            edits=edits,
            reactions=reactions,
            revokes=revokes,
            duplicates=duplicates,
            out_of_order=out_of_order,
            seed=seed,
        )
        retry = simulator.Retry(retry_policy.value, retry_delay_s, retries)
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from exc
    real = list(simulator.recorded(target.hmac_key)) if recorded else []
    made_up = simulator.traffic(profile, start_ms=time.time_ns() // 1_000_000) if wanted != 0 else ()
    run = _Run(
        chain(real, made_up),
        len(real) + (profile.deliveries if wanted != 0 else 0),
        target,
        {"rate_per_s": rate or None, "concurrency": concurrency, "timeout_s": timeout_s, "retry": retry},
    )
    report, stopped_by = run_async(_play(simulator, run))
    _show(report, as_json)
    if stopped_by:
        raise typer.Exit(128 + stopped_by)
    if report.lost:
        raise typer.Exit(1)


def _target(simulator: Simulator, settings: Settings, url: str | None, source: str | None) -> Any:
    """Where to post and what proves it. Raises ConfigError for a missing key, ValueError for a bad URL."""
    ingress = settings.ingress
    address = url or f"{settings.origin}/webhook"
    if source is not None:
        if source not in ingress.source_keys:
            known = ", ".join(ingress.source_keys) or "none"
            raise ConfigError(f"WAPIPE_SOURCE_HMAC_KEYS has no key for the source {source!r}; it has: {known}")
        key = require_secret(ingress.source_keys[source], "WAPIPE_SOURCE_HMAC_KEYS", f"{source} signs with it")
        return simulator.Target(f"{address.rstrip('/')}/{source}", key)
    if ingress.hmac_key is None and ingress.token is not None:
        token = require_secret(ingress.token, "WHATSAPP_WEBHOOK_TOKEN", "deliveries carry it")
        return simulator.Target(address, None, token)
    key = require_secret(ingress.hmac_key, "WHATSAPP_HOOK_HMAC_KEY", "deliveries are signed with it")
    return simulator.Target(address, key)


async def _play(simulator: Simulator, run: _Run) -> tuple[Report, int]:
    """Plays until the end, SIGINT or SIGTERM; the report and the signal that stopped it (0 for none)."""
    stop, report = asyncio.Event(), simulator.Report()
    stopped_by: list[int] = []
    told: list[str] = []

    def on_answer(_delivery: object, status: int | None, _latency_s: float, _attempt: int) -> None:
        if status is None and not told:
            told.append(next(iter(report.errors)))
            notes.print(f"no answer from {run.target.url} ({told[0]}); trying again as WAHA does", style="yellow")

    def on_signal(number: int) -> None:
        stopped_by.append(number)
        stop.set()
        for each in (signal.SIGINT, signal.SIGTERM):  # a second one kills
            asyncio.get_running_loop().remove_signal_handler(each)

    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError, ValueError, RuntimeError):  # Windows; not the main thread
            asyncio.get_running_loop().add_signal_handler(number, on_signal, int(number))
    async with _progress(report, run.total):
        await simulator.play(run.deliveries, run.target, on_answer=on_answer, stop=stop, report=report, **run.options)
    return report, stopped_by[0] if stopped_by else 0


@asynccontextmanager
async def _progress(report: Report, total: int) -> AsyncIterator[None]:
    """A bar on a terminal, nothing elsewhere."""
    if not notes.is_terminal:
        yield
        return
    words = TextColumn("{task.fields[words]}")
    with Progress(BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), words, console=notes) as bar:
        task = bar.add_task("", total=total, words="")

        def refresh() -> None:
            words = f"delivered {report.delivered}, retried {report.retried}, lost {report.lost}"
            bar.update(task, completed=report.delivered + report.lost, words=words)

        async def tick() -> None:
            while True:
                refresh()
                await asyncio.sleep(_TICK_S)

        ticker = asyncio.create_task(tick())
        try:
            yield
        finally:
            ticker.cancel()
            refresh()


def _show(report: Report, as_json: bool) -> None:
    data = report.to_dict()
    if as_json:
        out.print_json(data=data)
        return
    table = Table(show_header=False)
    for name in ("sent", "delivered", "lost", "unfinished", "retried"):
        table.add_row(name, f"{data[name]:,}")
    for status, n in data["answers"].items():
        table.add_row(f"answers {status}", f"{n:,}")
    for kind, n in data["errors"].items():
        table.add_row(f"no answer: {kind}", f"{n:,}")
    for name, milliseconds in data["latency_ms"].items() if data["answers"] else ():
        table.add_row(f"latency {name}", f"{milliseconds:,.1f} ms")
    table.add_row("elapsed", f"{data['elapsed_s']:.1f} s")
    table.add_row("rate", f"{data['rate_per_s']:,.1f} /s")
    for name, n in data["events"].items():
        table.add_row(f"event {name}", f"{n:,}")
    out.print(table)
