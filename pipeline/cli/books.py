"""`wapipe ledger`: do the books balance?"""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from pipeline.cli import run_async
from pipeline.ledger import Ledger, Line, read_ledger
from pipeline.logs import setup_logging
from pipeline.settings import load_settings

out = Console(highlight=False)


def ledger(
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """Print the books: what the topics hold against what each consumer wrote, merged, skipped and dead-lettered.

    Every offset that a consumer passed must be accounted for; records it has not reached yet are its lag. Replays have
    books of their own (CONSUMER@replay-ID) until `wapipe replay drop`.

    Examples:

      wapipe ledger

      wapipe ledger --json

    Exit codes: 0 the books balance, 1 they differ, 75 broker or database away.
    """
    settings = load_settings()
    setup_logging("WARNING")
    books = run_async(read_ledger(settings))
    if as_json:
        out.print_json(data=books.as_dict())
    else:
        print_ledger(books, out)
    if books.difference:
        raise typer.Exit(1)


def print_ledger(books: Ledger, console: Console) -> None:
    """The books as tables."""
    table = Table("consumer", "records", "written", "merged", "skipped", "dead", "gap", "lag", "difference")
    for line in books.lines:
        table.add_row(line.consumer, *_outcomes(line), f"{line.lag:,}", f"{line.difference:,}")
    console.print(table)
    if books.replays:
        table = Table("replay", "records", "written", "merged", "skipped", "dead", "gap", "difference")
        for line in books.replays:
            name = line.consumer.replace("@replay-", " ")
            table.add_row(name, *_outcomes(line), f"{line.difference:,}")
        console.print(table)
    for line in (*books.lines, *books.replays):
        names = ", ".join(f"{event or '(none)'} {n:,}" for event, n in sorted(line.skipped_events.items()))
        if names:
            console.print(f"skipped by {line.consumer}, by name: {names}")
    console.print(
        f"in the topics: {books.received:,} events ({books.fetched:,} of them fetched) and {books.parked:,} parked; "
        f"{books.unread:,} that no consumer has "
        f"begun to read. Difference: {books.difference:,}"
    )
    if books.spooled:
        console.print(
            f"in the spool of this machine: {books.spooled:,} that the topics do not have yet (wapipe spool show)"
        )


def _outcomes(line: Line) -> list[str]:
    return [f"{n:,}" for n in (line.records, line.written, line.merged, line.skipped, line.dead, line.gap)]
