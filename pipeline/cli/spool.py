"""`wapipe spool`: what the ingress keeps on disk while the broker is away. Looking, checking, and draining by hand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from pipeline.broker import Publisher
from pipeline.cli import run_async
from pipeline.errors import ConfigError, TransientError
from pipeline.logs import setup_logging
from pipeline.settings import Settings, load_settings
from pipeline.spool.contents import SlotContents, read_spool
from pipeline.spool.drain import drain as drain_slot
from pipeline.spool.record import Record
from pipeline.spool.slot import Slot, hold, slot_folders

out = Console(highlight=False)
spool = typer.Typer(help="Events on local disk while the broker is away.", no_args_is_help=True)

_CONNECT_S = 15.0
_DEADLINE_S = 30.0

DirOption = Annotated[
    Path | None, typer.Option("--dir", metavar="DIR", help="The spool's folder; WAPIPE_SPOOL_DIR if not given.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable.")]


@spool.command()
def show(folder: DirOption = None, as_json: JsonOption = False) -> None:
    """Print each directory of the spool: who holds it, records, bytes, age of the oldest, damage, files set aside.

    Every ingress process has a directory of its own. Reading disturbs nobody.

    Examples:

      wapipe spool show

      wapipe spool show --json | jq '[.directories[].records] | add'

    Exit codes: 0 printed, 78 configuration.
    """
    settings = _settings(folder)
    found = _read(settings)
    if as_json:
        out.print_json(data=_as_dict(settings, found))
        return
    _print(settings, found)


@spool.command()
def verify(folder: DirOption = None, as_json: JsonOption = False) -> None:
    """Check every checksum, of files that were set aside too.

    An unfinished write at the end of a file is no damage: it was never acknowledged.

    Examples:

      wapipe spool verify

    Exit codes: 0 all is well, 1 damage, 78 configuration.
    """
    settings = _settings(folder)
    found = _read(settings)
    if as_json:
        out.print_json(data=_as_dict(settings, found))
    for slot in found:
        if slot.damaged and not as_json:
            out.print(f"{slot.path}: damaged in {slot.damaged} places, {slot.damaged_bytes:,} bytes")
    if any(slot.damaged for slot in found):
        raise typer.Exit(1)
    if not as_json:
        out.print(f"all checksums are right: {sum(s.records for s in found):,} records in {settings.spool_folder}")


@spool.command()
def drain(
    folder: DirOption = None,
    refused: Annotated[
        bool, typer.Option("--refused", help="Also send files again that were set aside as too large for the broker.")
    ] = False,
) -> None:
    """Send what stopped or dead ingress processes left, oldest first, and remove it.

    A running ingress drains its own directory, and those of dead neighbours on its machine: this is for a spool that was
    moved here, or whose ingress is not to be started again. It may be interrupted and repeated.

    Examples:

      wapipe spool drain

      wapipe spool drain --dir /mnt/old-machine/spool

      wapipe spool drain --refused      after the topics take larger records

    Exit codes: 0 all is sent, 1 something was set aside (spool show), 75 broker away, 78 configuration.
    """
    settings = _settings(folder)
    if run_async(_drain(settings, refused)):
        raise typer.Exit(1)


def _settings(folder: Path | None) -> Settings:
    settings = load_settings()
    setup_logging("ERROR")
    if folder is None:
        return settings
    if not folder.is_dir():
        raise ConfigError(f"--dir {folder} is not a directory")
    return settings.model_copy(update={"spool": settings.spool.model_copy(update={"dir": folder})})


def _read(settings: Settings) -> list[SlotContents]:
    try:
        return read_spool(settings.spool_folder, settings.kafka.topic_prefix)
    except OSError as exc:
        raise ConfigError(f"the spool in {settings.spool_folder} cannot be read: {exc.strerror or exc}") from exc


def _as_dict(settings: Settings, found: list[SlotContents]) -> dict[str, object]:
    return {
        "folder": str(settings.spool_folder),
        "max_bytes": settings.spool.max_bytes,
        "directories": [slot.as_dict() for slot in found],
    }


def _print(settings: Settings, found: list[SlotContents]) -> None:
    table = Table("directory", "held by", "records", "bytes", "oldest", "damaged", "set aside")
    for slot in found:
        holder = "nobody" if slot.held_by is None else f"process {slot.held_by}" if slot.held_by else "a process"
        aside = f"{slot.aside} ({slot.aside_bytes:,} bytes)" if slot.aside else "0"
        table.add_row(
            slot.path.name, holder, f"{slot.records:,}", f"{slot.size_bytes:,}", _age(slot.oldest_ms), str(slot.damaged),
            aside,
        )  # fmt: skip
    if found:
        out.print(table)
    limit = (
        f"{settings.spool.max_bytes:,} bytes at most for each process" if settings.spool.max_bytes else "switched off"
    )
    out.print(f"{settings.spool_folder}: {sum(s.records for s in found):,} records; {limit}")


def _age(oldest_ms: int | None) -> str:
    if oldest_ms is None:
        return "-"
    minutes, seconds = divmod(max(0, int(time.time() - oldest_ms / 1000)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"


async def _drain(settings: Settings, refused: bool) -> bool:
    """Drains every directory that nobody holds; True if something is set aside."""
    root, prefix = settings.spool_folder, settings.kafka.topic_prefix
    slots: list[Slot] = []
    try:
        for path in await asyncio.to_thread(slot_folders, root, prefix):
            slot = await asyncio.to_thread(hold, path)
            if slot is None:
                out.print(f"{path.name} is held by a running process, which drains it itself")
                continue
            slots.append(slot)
            await asyncio.to_thread(_prepare, slot, refused)
        await _send_all(settings, slots)
    except OSError as exc:
        raise ConfigError(f"the spool in {root} cannot be drained: {exc.strerror or exc}") from exc
    finally:
        for slot in slots:
            slot.close()
    found = await asyncio.to_thread(read_spool, root, prefix)
    _print(settings, found)
    return any(slot.aside for slot in found)


def _prepare(slot: Slot, refused: bool) -> None:
    if refused:
        slot.take_back("refused")
    slot.recover()


async def _send_all(settings: Settings, slots: Iterable[Slot]) -> None:
    filled = [slot for slot in slots if slot.segments]
    if not filled:
        return
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=Console(stderr=True),
    )  # fmt: skip
    async with Publisher(settings.kafka) as publisher:
        if not await publisher.wait_ready(_CONNECT_S):
            raise TransientError("kafka", f"no answer from {settings.kafka.bootstrap_servers}; nothing was removed")

        async def send(record: Record) -> None:
            await publisher.publish(
                record.topic, record.key, record.value, record.headers, deadline_s=_DEADLINE_S
            )  # fmt: skip

        with bar:
            for slot in filled:
                task = bar.add_task(slot.path.name, total=slot.records)
                await drain_slot(slot, send, partial(bar.advance, task))
