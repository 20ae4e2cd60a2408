"""`wapipe dlq`: what could not be stored, why, and what to do about it. The work is done in pipeline.dlq."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal, get_args

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pipeline.broker import Publisher
from pipeline.cli import dlq_print, run_async
from pipeline.dlq.box import Box, Report, box_names, open_box, process_of
from pipeline.dlq.decide import Decision, Outcome, drop, redrive
from pipeline.dlq.describe import export_line
from pipeline.dlq.letters import Letter, Selection, State
from pipeline.dlq.overview import decisions, explain, summarise
from pipeline.dlq.trial import Verdict, try_letters
from pipeline.errors import TransientError, WapipeError
from pipeline.logs import setup_logging
from pipeline.postgres import Pool, open_pool
from pipeline.settings import Settings, load_settings

dlq = typer.Typer(
    help="Dead letters: what a consumer could not store, why, and what to do about it.", no_args_is_help=True
)
out = Console(highlight=False, markup=False)
notes = Console(stderr=True, highlight=False, markup=False)

_BROKER_WAIT_S = 10.0

Consumer = Annotated[str, typer.Argument(help="A consumer's name, or `parked` for signed bodies that are no events.")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable.")]
Unmasked = Annotated[bool, typer.Option("--unmasked", help="Show texts and numbers of people as they are.")]
StateName = Annotated[
    Literal["open", "redriven", "dropped", "any"],
    typer.Option("--state", help="Which letters, by what became of them."),
]
Everything = Annotated[bool, typer.Option("--all", help="Every letter.")]
Reason = Annotated[str | None, typer.Option("--reason", help="Those that died of this reason.")]
Key = Annotated[str | None, typer.Option("--key", help="Those of this record key: session|chat.")]
Ids = Annotated[list[str] | None, typer.Option("--id", help="This one: topic/partition/offset. May be repeated.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@dlq.command("list")
def list_letters(
    consumer: Annotated[str | None, typer.Argument(help="Only this consumer, or `parked`.")] = None,
    state: StateName = "open",
    unmasked: Unmasked = False,
    as_json: Json = False,
) -> None:
    """List dead letters by consumer and reason: how many, since when, which events, and the newest as a sample.

    A record that died several times is one letter. Samples are masked: no texts, no phone numbers.

    Examples:

      wapipe dlq list

      wapipe dlq list messages --state any --json

    Exit codes: 0 done, 75 broker or database away, 78 no such consumer.
    """
    settings = _start()

    async def read() -> list[dict[str, object]]:
        async with _pool(settings) as pool:
            found = []
            for name in [consumer] if consumer else box_names():
                box = open_box(name, settings.kafka, pool)
                with _progress(f"reading {name}") as report:
                    found.append(await summarise(box, _state(state), masked=not unmasked, report=report))
            return found

    boxes = run_async(read())
    _answer(boxes) if as_json else dlq_print.print_boxes(boxes, out)


@dlq.command("show")
def show(
    consumer: Consumer,
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it: topic/partition/offset.")],
    unmasked: Unmasked = False,
    as_json: Json = False,
) -> None:
    """Show one letter: its payload decoded as far as possible, why it died, its history, and whether it would pass now.

    Whether it would pass is tried with the consumer's own code in a transaction that is rolled back.

    Examples:

      wapipe dlq show messages waha.message/3/1042

      wapipe dlq show parked waha.parked/0/17 --unmasked

    Exit codes: 0 done, 1 no such letter, 75 broker or database away, 78 no such consumer.
    """
    settings = _start()

    async def read() -> dict[str, object]:
        async with _pool(settings) as pool:
            box = open_box(consumer, settings.kafka, pool)
            letters = await _chosen(box, Selection(ids=frozenset([letter_id]), state=None))
            return await explain(box, letters[-1], masked=not unmasked)

    found = run_async(read())
    _answer(found) if as_json else dlq_print.print_letter(found, out)


@dlq.command("replay")
def replay(
    consumer: Consumer,
    *,
    everything: Everything = False,
    reason: Reason = None,
    key: Key = None,
    ids: Ids = None,
    state: StateName = "open",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many would pass now, and why not.")] = False,
    because: Annotated[str, typer.Option("--because", help="Noted with the decision.")] = "",
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Send letters through their consumer again, after what made them fail is mended. No other consumer sees them.

    What fails again is open again, with its history. May be interrupted and repeated: nothing is lost or stored twice.
    --dry-run decodes and writes with the code that is installed here, in transactions that are rolled back.
    --state dropped (or redriven) takes letters that were given up (or sent) before.

    Examples:

      wapipe dlq replay messages --reason refused_by_database --dry-run

      wapipe dlq replay messages --reason refused_by_database

      wapipe dlq replay messages --id waha.message/3/1042

    Exit codes: 0 done, 1 no such letter, not agreed to, or (--dry-run) some would fail again, 2 wrong usage, 75 broker
    or database away (repeat the command), 78 no such consumer or topic.
    """
    selection = _selection(everything=everything, reason=reason, key=key, ids=ids, state=state)
    settings = _start()

    async def work() -> tuple[int, Outcome | list[Verdict] | None]:
        async with _pool(settings) as pool:
            box = open_box(consumer, settings.kafka, pool)
            process_of(box)  # parked bodies have none, and that is said before anything is read
            letters = await _chosen(box, selection)
            if dry_run:
                return len(letters), await _try(box, letters)
            if letters and not _agreed(
                f"Redrive {dlq_print.letters(len(letters))} of {consumer}?", ask=everything and not yes
            ):
                return len(letters), None
            decision = Decision("redriven", selection.text, because)
            return len(letters), await _redrive(settings, box, letters, decision) if letters else Outcome()

    count, result = run_async(work())
    if isinstance(result, list):
        dlq_print.print_verdicts(result, out, as_json=as_json)
        raise typer.Exit(0 if all(v.passes for v in result) else 1)
    _conclude(result, count, "redriven", as_json=as_json)
    if result is not None and result.decided and not as_json:
        out.print(f"{consumer} reads them when it runs; what fails again, `wapipe dlq list {consumer}` shows.")


@dlq.command("drop")
def drop_letters(
    consumer: Consumer,
    *,
    because: Annotated[str, typer.Option("--because", help="Why nobody needs them; kept for the audit.")],
    everything: Everything = False,
    reason: Reason = None,
    key: Key = None,
    ids: Ids = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Give letters up: they are no longer listed. Who did it, when and why is kept; `wapipe dlq audit` shows it.

    The records stay in their topic until its retention ends, so that `replay --state dropped` can still take them.

    Examples:

      wapipe dlq drop messages --reason payload_missing --because "broken plugin, mended on Monday"

    Exit codes: 0 done, 1 no such letter or not agreed to, 2 wrong usage, 75 broker or database away, 78 no such consumer.
    """
    if not because.strip():
        raise typer.BadParameter("say why nobody needs them", param_hint="--because")
    selection = _selection(everything=everything, reason=reason, key=key, ids=ids, state="open")
    settings = _start()

    async def work() -> tuple[int, Outcome | None]:
        async with _pool(settings) as pool:
            box = open_box(consumer, settings.kafka, pool)
            letters = await _chosen(box, selection)
            if letters and not _agreed(
                f"Drop {dlq_print.letters(len(letters))} of {consumer}?", ask=everything and not yes
            ):
                return len(letters), None
            decision = Decision("dropped", selection.text, because.strip())
            return len(letters), await drop(box, letters, decision) if letters else Outcome()

    count, result = run_async(work())
    _conclude(result, count, "dropped", as_json=as_json)


@dlq.command("export")
def export(
    consumer: Consumer,
    *,
    to: Annotated[
        Path | None, typer.Option("--to", help="A new file, readable by you alone; else standard output.")
    ] = None,
    reason: Reason = None,
    key: Key = None,
    ids: Ids = None,
    state: StateName = "open",
) -> None:
    """Write letters as JSON lines, complete and unmasked; keys, header values and the value as base64.

    Examples:

      wapipe dlq export messages --to letters.jsonl

      wapipe dlq export parked | jq -r '.value_base64 | @base64d'

    Exit codes: 0 done, 1 no such letter or the file cannot be written, 75 broker or database away, 78 no such consumer.
    """
    selection = Selection(reason, key, frozenset(ids) if ids else None, _state(state))
    settings = _start()

    async def work() -> tuple[int, int]:
        async with _pool(settings) as pool:
            box = open_box(consumer, settings.kafka, pool)
            letters = await _chosen(box, selection)
            with _opened(to) as descriptor:
                return len(letters), await _write(box, letters, descriptor)

    chosen, written = run_async(work())
    notes.print(f"{written:,} of {dlq_print.letters(chosen)} written" + (f" to {to}" if to else ""))


@dlq.command("audit")
def audit(
    consumer: Annotated[str | None, typer.Argument(help="Only this consumer, or `parked`.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="So many, the newest.")] = 50,
    as_json: Json = False,
) -> None:
    """Show what was redriven and dropped: when, by whom, why, how many letters.

    Examples:

      wapipe dlq audit

      wapipe dlq audit messages --limit 500 --json

    Exit codes: 0 done, 75 database away.
    """
    settings = _start()

    async def read() -> list[dict[str, object]]:
        async with _pool(settings) as pool:
            return await decisions(consumer, pool, limit)

    found = run_async(read())
    _answer(found) if as_json else dlq_print.print_decisions(found, out)


# ---------------------------------------------------------------- what the commands share
def _start() -> Settings:
    settings = load_settings()
    setup_logging("CRITICAL")  # a decoder's complaint is an answer here, no event
    return settings


@contextlib.asynccontextmanager
async def _pool(settings: Settings) -> AsyncIterator[Pool]:
    pool = await open_pool(settings.database, name="dlq", max_size=2)
    try:
        yield pool
    finally:
        await pool.close()


def _state(name: str) -> State | None:
    return next((s for s in get_args(State) if s == name), None)


def _selection(
    *, everything: bool, reason: str | None, key: str | None, ids: Sequence[str] | None, state: str
) -> Selection:
    some = reason is not None or key is not None or bool(ids)
    if some == everything:
        raise typer.BadParameter("say which: either --all, or --reason, --key or --id (together: all must hold)")
    return Selection(reason, key, frozenset(ids) if ids else None, _state(state))


async def _chosen(box: Box, selection: Selection) -> list[Letter]:
    """The letters that are meant. Raises WapipeError when one that was named is not there."""
    with _progress(f"reading {box.consumer}") as report:
        letters = await box.read(selection, report)
    missing = (selection.ids or frozenset()) - {letter.id for letter in letters}
    if missing:
        which = selection.state or "dead"
        raise WapipeError(f"{box.consumer} has no {which} letter {', '.join(sorted(missing))} (of that reason and key)")
    return letters


async def _try(box: Box, letters: Sequence[Letter]) -> list[Verdict]:
    process, verdicts = process_of(box), list[Verdict]()
    with _progress(f"trying {box.consumer}") as report:
        async for pairs in box.fetch(letters, at_once=500):
            verdicts += await try_letters(box.pool, process, pairs)
            report(len(verdicts), len(letters))
    return verdicts


async def _redrive(settings: Settings, box: Box, letters: Sequence[Letter], decision: Decision) -> Outcome:
    async with Publisher(settings.kafka) as publisher:
        if not await publisher.wait_ready(_BROKER_WAIT_S):
            raise TransientError("kafka", "no connection")
        with _progress(f"redriving {box.consumer}") as report:
            return await redrive(box, publisher, letters, decision, report)


async def _write(box: Box, letters: Sequence[Letter], descriptor: int) -> int:
    written = 0
    with _progress(f"exporting {box.consumer}") as report, os.fdopen(descriptor, "wb") as file:
        async for pairs in box.fetch(letters):
            for letter, record in pairs:
                file.write(export_line(letter, record))
            written += len(pairs)
            report(written, len(letters))
    return written


@contextlib.contextmanager
def _opened(path: Path | None) -> Iterator[int]:
    """A file descriptor to write to. Raises WapipeError when that fails, then or later."""
    try:
        yield (
            os.dup(sys.stdout.fileno()) if path is None else os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        )
    except OSError as exc:
        raise WapipeError(f"cannot write {path or 'standard output'}: {exc.strerror}") from exc


def _agreed(question: str, *, ask: bool) -> bool:
    """Asks on a terminal only: a script has said --all on purpose."""
    return not (ask and sys.stdin.isatty()) or typer.confirm(question, err=True)


@contextlib.contextmanager
def _progress(what: str) -> Iterator[Report]:
    """A bar on standard error, where that is a terminal; it goes away when it is full."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=notes, transient=True, disable=not notes.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _conclude(outcome: Outcome | None, chosen: int, verb: str, *, as_json: bool) -> None:
    if outcome is None:
        out.print("nothing was done")
        raise typer.Exit(1)
    if as_json:
        _answer({"chosen": chosen, verb: outcome.decided, "taken_by_others": outcome.taken, "gone": outcome.gone})
    else:
        out.print(f"{verb} {outcome.decided:,} of {dlq_print.letters(chosen)}")
        if outcome.taken:
            out.print(f"{outcome.taken:,} were taken by another command meanwhile")
        if outcome.gone:
            out.print(f"{outcome.gone:,} were deleted by retention meanwhile")


def _answer(data: object) -> None:
    typer.echo(json.dumps(data, ensure_ascii=False, indent=2))
