"""`wapipe demo`: the whole pipeline on this machine, with WhatsApp traffic played into it, and a summary that must add up.

Everything is real but WhatsApp: Kafka, PostgreSQL, S3 and every process of wapipe, in a folder that is removed at the
end. Secrets are made up for the run.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import secrets
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pipeline.cli import run_async
from pipeline.cli.books import print_ledger
from pipeline.cli.demo_history import SYNC_ENVIRONMENT, Fetched, History, is_whole, show_history, simulated_waha_port
from pipeline.cli.demo_media import settled_files, show_files
from pipeline.cli.stack import table as process_table
from pipeline.errors import TransientError, WapipeError
from pipeline.ledger import Ledger, read_ledger
from pipeline.local.cache import cache_root
from pipeline.local.meter import Meter, Reading
from pipeline.local.plan import SERVERS
from pipeline.local.stack import Stack, is_running
from pipeline.settings import Settings, load_settings, read_environment

out = Console(highlight=False)

_SETTLE_S = 60.0  # longest wait for the consumers after the last delivery
_KEPT = ("WAPIPE_CACHE_DIR", "WAPIPE_LOCAL_POSTGRES", "WAPIPE_LOG_LEVEL", "WAPIPE_LISTEN_HOST")


def demo(
    rate: Annotated[float, typer.Option(help="Simulated deliveries a second.", min=1, max=5000)] = 100.0,
    count: Annotated[int, typer.Option(help="Simulated deliveries.", min=1, max=1_000_000)] = 1000,
    seed: Annotated[int, typer.Option(help="Same seed, same traffic.")] = 1,
) -> None:
    """Show the whole pipeline at work: real Kafka, PostgreSQL and S3, every process, and WhatsApp traffic.

    First webhooks tell a part of a history, and sync fetches the rest; then the recorded deliveries of a real WAHA are
    played, then simulated ones, whose files a simulated WAHA serves. At the end messages and a picture are read back through
    the API, and what was fetched, the gap that was closed and the books are printed. On a terminal it stays up
    until Ctrl-C, elsewhere it ends by itself. A port in use is moved with its variable (WHATSAPP_GATEWAY_API_PORT=4111
    wapipe demo); 0 takes a free one.

    Examples:

      wapipe demo

      wapipe demo --rate 500 --count 20000

      wapipe demo </dev/null && echo the books balance

    Exit codes: 0 the books balance and the history is complete, 1 not so or something failed, 78 configuration (a port in
    use), 130 Ctrl-C before the summary.
    """
    raise typer.Exit(run_async(_interruptible(_demo(rate, count, seed))))


async def _interruptible(work: Any) -> int:
    """Runs `work`; SIGINT, SIGTERM and SIGHUP end it in an orderly way, so that nothing stays behind."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, task.cancel)
    try:
        return int(await task)
    except asyncio.CancelledError:
        return 130


async def _demo(rate: float, count: int, seed: int) -> int:
    env = demo_environment(dict(read_environment()))
    settings = load_settings(env)
    port = await simulated_waha_port(settings)
    env |= {"WAPIPE_WAHA_URL": f"http://127.0.0.1:{port}", "WAPIPE_MEDIA_ASK_TIMES": "1", **SYNC_ENVIRONMENT}
    history = History(env["WHATSAPP_API_KEY"], seed)
    folder = cache_root(settings.local) / "demo"
    if not is_running(folder):
        shutil.rmtree(folder, ignore_errors=True)
    started = time.monotonic()
    try:
        async with (
            history.serving(port),
            Stack(settings, folder, overrides=env, say=lambda text: out.print(text, style="dim")) as stack,
        ):
            out.print(f"everything is ready after {time.monotonic() - started:.0f} s\n")
            code = await _show(stack, history, rate, count, seed)
            if out.is_terminal and sys.stdin.isatty():
                out.print("\nIt stays up until Ctrl-C.")
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()
                out.print("stopping")
            return code
    finally:
        if not is_running(folder):
            shutil.rmtree(folder, ignore_errors=True)


def demo_environment(env: dict[str, str]) -> dict[str, str]:
    """Ports and folders as the user set them; everything else is the demo's own."""
    kept = {k: v for k, v in env.items() if k in _KEPT or (k.endswith("_PORT") and k != "WHATSAPP_PGBOUNCER_PORT")}
    names = (
        "WHATSAPP_DB_PASSWORD", "WHATSAPP_HOOK_HMAC_KEY", "WHATSAPP_GATEWAY_API_TOKEN", "WHATSAPP_MINIO_ROOT_PASSWORD",
        "WHATSAPP_API_KEY",
    )  # fmt: skip
    known = {k: v for k, v in kept.items() if k.startswith(("WAPIPE_", "WHATSAPP_", "POSTGRES_"))}
    return known | {name: secrets.token_urlsafe(24) for name in names}


@dataclass(slots=True)
class _Progress:
    """What is being played, for the live table."""

    what: str
    report: Any
    total: int


class _Player:
    """Posts deliveries to the stack's webhook, and counts those that were answered 2xx."""

    def __init__(self, settings: Settings) -> None:
        key = settings.ingress.hmac_key
        assert key is not None
        self._simulator: Any = importlib.import_module("producers.simulator")
        self._key = key.get_secret_value()
        self._target = self._simulator.Target(f"{settings.origin}/webhook", self._key)
        self.delivered = 0
        self.progress = _Progress("", self._simulator.Report(), 0)

    async def post(self, what: str, deliveries: Iterable[Any], total: int, pace: float | None = None) -> None:
        """All of them."""
        self.progress = shown = _Progress(what, self._simulator.Report(), total)
        await self._simulator.play(
            deliveries, self._target, rate_per_s=pace, concurrency=32, report=shown.report
        )  # fmt: skip
        self.delivered += shown.report.delivered

    async def post_one(self, delivery: Any) -> None:
        """Beside what is being played."""
        report = self._simulator.Report()
        await self._simulator.play([delivery], self._target, report=report)
        self.delivered += report.delivered

    async def traffic(self, rate: float, count: int, seed: int) -> None:
        """What a real WAHA once sent, then what nobody sent."""
        real = list(self._simulator.recorded(self._key))
        await self.post("recorded deliveries of a real WAHA", real, len(real))
        profile = self._simulator.Profile(rate_per_s=rate, count=count, seed=seed)
        simulated = self._simulator.traffic(profile, start_ms=time.time_ns() // 1_000_000)
        await self.post("simulated deliveries", simulated, count, rate)


async def _show(stack: Stack, history: History, rate: float, count: int, seed: int) -> int:
    """Plays, waits, reads back, prints. Answers the exit code."""
    player, settings = _Player(stack.settings), stack.settings
    async with _live(stack, lambda: player.progress):
        part = list(history.webhooks())
        await player.post("webhooks that tell a part of a history", part, len(part))
        await settled_books(settings, player.delivered)
        told = await history.read(settings)
        history.begin()
        (filled, after), _ = await asyncio.gather(
            _complete(settings, player, history), player.traffic(rate, count, seed)
        )  # fmt: skip
        books = await settled_books(settings, player.delivered)
        files = await settled_files(settings)
    await _read_back(settings, files)
    show_history(told, filled, after, out)
    return _conclude(stack, books, player.delivered, whole=is_whole(after))


async def _complete(settings: Settings, player: _Player, history: History) -> tuple[list[Fetched], list[Fetched]]:
    """Once the history is filled, and once the gap is closed that opens then."""
    filled = await history.settled(settings)
    await player.post_one(history.outage())
    return filled, await history.settled(settings, gaps=1)


async def settled_books(settings: Settings, delivered: int) -> Ledger:
    """The books once every consumer has read everything; as they are after a minute otherwise."""
    end = time.monotonic() + _SETTLE_S
    while True:
        with contextlib.suppress(TransientError):
            books = await read_ledger(settings)
            done = books.lag == 0 and books.unread == 0 and books.received - books.fetched + books.parked >= delivered
            if done or time.monotonic() > end:
                return books
        await asyncio.sleep(0.3)


@contextlib.asynccontextmanager
async def _live(stack: Stack, progress: Callable[[], _Progress]) -> AsyncIterator[None]:
    """A table of the processes that is redrawn every second on a terminal; single lines elsewhere."""
    meter = Meter()
    with Live(console=out, refresh_per_second=4, transient=not out.is_terminal) as live:

        async def redraw() -> None:
            while True:
                states = [p for p in stack.snapshot() if p.port is not None]
                measured = [p for p in states if p.name not in SERVERS]
                readings = await asyncio.gather(*(meter.read(p.port) for p in measured if p.port is not None))
                by_name: dict[str, Reading] = {p.name: r for p, r in zip(measured, readings, strict=True)}
                now = progress()
                line = f"{now.what}: {now.report.delivered:,} of {now.total:,} answered 2xx"
                if out.is_terminal:
                    live.update(Group(process_table(tuple(states), by_name), Text(""), Text(line)))
                await asyncio.sleep(1)

        task = asyncio.create_task(redraw())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _read_back(settings: Settings, files: dict[str, Any]) -> None:
    """Messages through the API, as a user would read them, and a picture."""
    token = settings.api.token
    assert token is not None
    headers = {"X-Api-Token": token.get_secret_value()}
    async with httpx.AsyncClient(base_url=settings.origin, headers=headers, timeout=10) as client:
        sessions = (await _get(client, "/api/sessions"))["items"]
        table = Table("session", "status", "engine", "chat", "newest message", box=None, header_style="bold")
        for session in sessions[:6]:
            name = session["name"]
            contacts = (await _get(client, f"/api/contacts/{name}"))["items"]
            chat, newest = await _newest(client, name, [c["id"] for c in contacts])
            table.add_row(name, session.get("status") or "", session.get("engine") or "", chat, newest)
        out.print("\nread back through the API:", style="bold")
        out.print(table)
        await show_files(settings, files, client, out)


async def _newest(client: httpx.AsyncClient, session: str, chats: list[str]) -> tuple[str, str]:
    """The first of the chats that has messages, and its newest one."""
    for chat in chats:
        items = (await _get(client, f"/api/messages/{session}/{chat}?limit=1"))["items"]
        if items:
            item = items[0]
            text = (item["text"] or "").replace("\n", " ")
            return chat, f"{item['timestamp']} {item['type']}: {text[:40]}"
    return "", ""


async def _get(client: httpx.AsyncClient, path: str) -> Any:
    answer = await client.get(path)
    if answer.status_code != httpx.codes.OK:
        raise WapipeError(f"GET {path.split('?', maxsplit=1)[0]} answered {answer.status_code}: {answer.text[:200]}")
    return answer.json()


def _conclude(stack: Stack, books: Ledger, delivered: int, *, whole: bool) -> int:
    """The books, the addresses, and the verdict."""
    settings = stack.settings
    out.print("\nthe books:", style="bold")
    print_ledger(books, out)
    webhooks = books.received - books.fetched
    difference = abs(delivered - webhooks - books.parked) + books.difference + books.lag + books.unread
    out.print(
        f"answered 2xx: {delivered:,} = in the topics {webhooks:,} + parked {books.parked:,}; "
        f"every record of the topics is stored, merged, skipped by name or dead-lettered. Difference: {difference}",
        soft_wrap=True,
    )
    token = settings.api.token.get_secret_value() if settings.api.token else ""
    out.print("\nlook around:", style="bold")
    say = partial(out.print, soft_wrap=True)
    say(f"  API docs   {settings.origin}/docs   (header X-Api-Token: {token})")
    say(f"  messages   curl -H 'X-Api-Token: {token}' {settings.origin}/api/sessions")
    say(f"  metrics    {settings.origin}/metrics and http://127.0.0.1:4021/metrics")
    say(f"  database   {settings.database.dsn()}")
    say(f"  S3         {settings.s3.url}   bucket {settings.s3.bucket}")
    restarts = [p.name for p in stack.snapshot() if p.restarts]
    if restarts:
        out.print(f"restarted meanwhile: {', '.join(restarts)}")
    out.print(f"\n{'the books balance' if difference == 0 else 'THE BOOKS DO NOT BALANCE'}", style="bold")
    out.print("the history is complete" if whole else "THE HISTORY IS NOT COMPLETE", style="bold")
    return 0 if difference == 0 and whole else 1
