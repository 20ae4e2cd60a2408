"""`wapipe media`: files of messages. What became of them, taking up again what was given up, checking and sweeping S3."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from pipeline.cli import run_async
from pipeline.errors import WapipeError
from pipeline.logs import setup_logging
from pipeline.media.sweep import Swept, sweep
from pipeline.media.verify import Verified, count_objects, verify
from pipeline.postgres import Pool, close_pool, open_pool, translated
from pipeline.s3 import open_bucket
from pipeline.settings import Settings, load_settings
from sql import queries

out = Console(highlight=False)
notes = Console(stderr=True, highlight=False)
media = typer.Typer(help="Files of messages, from WAHA into S3.", no_args_is_help=True)

_SQL = queries("media")
_END = datetime.max.replace(tzinfo=UTC)
_STATES = ("pending", "running", "stored", "skipped", "failed", "expired")
State = Literal["pending", "running", "stored", "skipped", "failed", "expired"]
_OVER = ("expired", "failed", "skipped")
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable.")]
SessionOption = Annotated[str | None, typer.Option(help="Of this session only; `source:name` for a second WAHA.")]


@media.command()
def status(as_json: JsonOption = False) -> None:
    """Print how many files there are in each state, why some are not stored, and what lies in S3.

    Every message with a file is one job: jobs = stored + skipped + failed + expired + pending + running.

    Examples:

      wapipe media status

      wapipe media status --json | jq .states.expired

    Exit codes: 0 printed, 75 database away.
    """
    found = run_async(read_status(_settings()))
    if as_json:
        out.print_json(data=found)
    else:
        print_status(found, out)


@media.command("list")
def list_(
    state: Annotated[State, typer.Option(help="What became of them.")] = "failed",
    session: SessionOption = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
    as_json: JsonOption = False,
) -> None:
    """List files by what became of them, newest first.

    Examples:

      wapipe media list

      wapipe media list --state expired --session default --json

    Exit codes: 0 printed, 75 database away.
    """
    rows = run_async(_read_list(_settings(), state, session, limit))
    if as_json:
        out.print_json(data=rows, default=str)
        return
    table = Table(
        "session", "message", "type", "reason", "attempts", "asked", "last error", box=None, header_style="bold"
    )
    for row in rows:
        table.add_row(
            row["session"], row["message"], row["type"], row["reason"] or "", str(row["attempts"]), str(row["asked"]),
            row["last_error"] or "",
        )  # fmt: skip
    out.print(table)


@media.command()
def retry(
    state: Annotated[
        list[str] | None,
        typer.Option(help="expired, failed or skipped; may be repeated. Expired and failed if not given."),
    ] = None,
    session: SessionOption = None,
    reason: Annotated[str | None, typer.Option(help="Given up for this reason only.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest first.")] = 100_000,
) -> None:
    """Take up again what was given up: WAHA is asked for each of these files anew.

    WhatsApp keeps files for two to four weeks, and a phone can send one again.

    Examples:

      wapipe media retry

      wapipe media retry --state failed --reason hash_mismatch

    Exit codes: 0 done, 75 database away.
    """
    states = state or ["expired", "failed"]
    if unknown := sorted(set(states) - set(_OVER)):
        raise typer.BadParameter(f"--state is one of {', '.join(_OVER)}, not {', '.join(unknown)}")
    out.print(f"taken up again: {run_async(_retry(_settings(), states, session, reason, limit)):,}")


@media.command("verify")
def verify_(
    sample: Annotated[int | None, typer.Option(min=1, help="So many objects by chance; all if not given.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Read objects again and hold them to hash and database, both ways.

    Objects without a row are no fault: a process died between S3 and the database. `wapipe media sweep` takes them.

    Examples:

      wapipe media verify --sample 1000

      wapipe media verify --json

    Exit codes: 0 all is well, 1 objects are missing or damaged, 75 database or S3 away.
    """
    found = run_async(_verify(_settings(), sample))
    if as_json:
        out.print_json(data=dataclasses.asdict(found))
    else:
        out.print(f"read {found.objects:,} objects, {found.bytes:,} bytes")
        for what, hashes in (("missing", found.missing), ("damaged", found.damaged), ("without a row", found.unknown)):
            out.print(f"{what}: {len(hashes):,}", *hashes[:20], sep="\n  ")
    if not found.is_well:
        raise typer.Exit(1)


@media.command("sweep")
def sweep_(
    yes: Annotated[bool, typer.Option("--yes", help="Really delete; without it nothing is changed.")] = False,
    grace_s: Annotated[
        float | None, typer.Option("--grace-s", min=0, help="WAPIPE_MEDIA_SWEEP_GRACE_S if not given.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Delete objects that no message refers to, and what broken uploads left. Says what it would do; --yes does it.

    Examples:

      wapipe media sweep

      wapipe media sweep --yes

    Exit codes: 0 done, 75 database or S3 away.
    """
    settings = _settings()
    grace = settings.media.sweep_grace_s if grace_s is None else grace_s
    found = run_async(_sweep(settings, grace, dry_run=not yes))
    if as_json:
        out.print_json(data=dataclasses.asdict(found))
        return
    out.print(f"objects that nobody refers to: {found.objects:,}, {found.bytes:,} bytes")
    out.print(f"temporary objects: {found.temporary:,}; uploads that nobody completed: {found.uploads:,}")
    out.print(f"objects without a row, which the next sweep takes: {found.adopted:,}")
    if not yes:
        out.print("nothing was changed: repeat it with --yes")


async def read_status(settings: Settings) -> dict[str, Any]:
    """States, reasons and objects. Raises TransientError."""
    async with _pool(settings) as pool, translated():
        states = {row["state"]: row["jobs"] for row in await pool.fetch(_SQL["states"])}
        reasons = [dict(row) for row in await pool.fetch(_SQL["reasons"])]
        waiting = {row["deadline"]: row["jobs"] for row in await pool.fetch(_SQL["waiting"])}
        objects = await pool.fetchrow(_SQL["objects"])
        due = await pool.fetchval(_SQL["due"])
    known = {state: states.get(state, 0) for state in _STATES}
    return {"jobs": sum(known.values()), "states": known, "reasons": reasons, "waiting": waiting, "due": due,
            "objects": dict(objects) if objects is not None else {}}  # fmt: skip


def print_status(found: dict[str, Any], console: Console) -> None:
    """See `status`."""
    states = found["states"]
    total = " + ".join(f"{n:,} {state}" for state, n in states.items())
    console.print(f"jobs: {found['jobs']:,} = {total}", soft_wrap=True)
    for row in found["reasons"]:
        console.print(f"  {row['state']}: {row['jobs']:,} {row['reason']}")
    objects = found["objects"]
    console.print(
        f"in S3: {objects['objects']:,} objects, {objects['bytes']:,} bytes, {objects['thumbnails']:,} thumbnails"
    )


async def _read_list(settings: Settings, state: str, session: str | None, limit: int) -> list[dict[str, Any]]:
    async with _pool(settings) as pool, translated():
        if session is not None and not await pool.fetchval(_SQL["session"], session):
            raise WapipeError(f"there is no session {session!r}")
        rows = await pool.fetch(_SQL["list"], state, session, _END, 0, UUID(int=0), limit)
    names = (
        "session",
        "type",
        "reason",
        "attempts",
        "asked",
        "last_error",
        "deadline",
        "created_at",
        "finished_at",
        "bytes",
    )
    return [
        {"message": row["message_id"], "state": row["download_status"]} | {n: row[n] for n in names} for row in rows
    ]


async def _retry(settings: Settings, states: list[str], session: str | None, reason: str | None, limit: int) -> int:
    async with _pool(settings) as pool, translated():
        return len(await pool.fetch(_SQL["retry"], states, session, reason, limit))


async def _verify(settings: Settings, sample: int | None) -> Verified:
    async with _pool(settings) as pool, open_bucket(settings.s3) as bucket:
        total = await count_objects(pool)
        columns = (TextColumn("objects"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=notes, transient=True, disable=not notes.is_terminal) as bar:
            task = bar.add_task("objects", total=total if sample is None else min(sample, total))
            return await verify(pool, bucket, sample=sample, step=lambda: bar.advance(task))


async def _sweep(settings: Settings, grace_s: float, *, dry_run: bool) -> Swept:
    async with _pool(settings) as pool, open_bucket(settings.s3) as bucket:
        return await sweep(pool, bucket, grace_s=grace_s, dry_run=dry_run)


@asynccontextmanager
async def _pool(settings: Settings) -> AsyncIterator[Pool]:
    pool = await open_pool(settings.database, name="media command", max_size=2)
    try:
        yield pool
    finally:
        await close_pool(pool)


def _settings() -> Settings:
    settings = load_settings()
    setup_logging("ERROR")
    return settings
