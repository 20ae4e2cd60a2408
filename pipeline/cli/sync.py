"""`wapipe sync`: ask for history, watch it being fetched, stop and resume it, see how complete the archive is."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from pipeline.broker import Publisher, require_topics
from pipeline.cli import run_async
from pipeline.errors import TransientError
from pipeline.postgres import Pool, open_pool, translated
from pipeline.settings import Settings, load_settings
from pipeline.sync.coverage import Coverage, read_coverage
from pipeline.sync.requests import publish_requests
from schemas.ids import to_chat
from schemas.sync import ALL_CHATS, SyncRequest, make_request
from schemas.topics import SYNC
from sql import queries

T = TypeVar("T")
sync = typer.Typer(help="History from WAHA: ask for it, watch it, stop it, see what is missing.", no_args_is_help=True)
out = Console(highlight=False)

_Session = Annotated[str, typer.Argument(help="As the API names it; `source:name` on a further WAHA server.")]
_SomeSession = Annotated[str | None, typer.Argument(help="Only this session; all if not given.")]
_Chat = Annotated[str | None, typer.Option(help="A chat's id or phone number; all chats if not given.")]
_Json = Annotated[bool, typer.Option("--json", help="As JSON.")]


@sync.command()
def start(  # noqa: PLR0917 - one parameter an option
    session: _Session,
    chat: _Chat = None,
    days: Annotated[
        float | None, typer.Option(help="So far back; WHATSAPP_SYNC_LOOKBACK_DAYS if not given.", min=0)
    ] = None,
    since: Annotated[str | None, typer.Option(help="From this time on (ISO 8601, UTC) instead.")] = None,
    until: Annotated[str | None, typer.Option(help="Up to this time; now if not given.")] = None,
    people: Annotated[bool, typer.Option("--people", help="Contacts, groups, hidden ids and labels instead.")] = False,
    as_json: _Json = False,
) -> None:
    """Ask for the history of a session, or of one chat. The process `sync` fetches it.

    The same window asked for while it is open is one request.

    Examples:

      wapipe sync start default --days 30

      wapipe sync start default --chat "+49 151 2345678" --since 2026-01-01

    Exit codes: 0 asked, 2 wrong usage, 75 the broker is away, 78 the topic is missing.
    """
    settings = load_settings()
    now = datetime.now(UTC)
    depth = timedelta(days=settings.sync.lookback_days if days is None else days)
    until_at = _time(until, now)
    since_at = _time(since, until_at - depth)
    if since_at > until_at:
        raise typer.BadParameter("--since lies after --until")
    request = make_request(
        session, "manual", max(0, int(since_at.timestamp())), int(until_at.timestamp()),
        chat=_chat(chat) or ALL_CHATS, kind="people" if people else "messages",
    )  # fmt: skip
    run_async(_ask(settings, request))
    if as_json:
        out.print_json(data={"request_id": request.request_id, "since_s": request.since_s, "until_s": request.until_s})
    else:
        out.print(f"asked for {request.chat} of {session}, {_shown(request.since_s)} to {_shown(request.until_s)}")
        out.print(f"watch it with: wapipe sync status {session}")


@sync.command()
def status(
    session: _SomeSession = None,
    limit: Annotated[int, typer.Option(help="Requests to show, open ones first.", min=1, max=10_000)] = 20,
    watch: Annotated[bool, typer.Option("--watch", help="Until nothing is open, every two seconds.")] = False,
    as_json: _Json = False,
) -> None:
    """Show requests: what is open and how far it is, then what ended last.

    Examples:

      wapipe sync status

      wapipe sync status default --watch

    Exit codes: 0 shown, 75 the database is away.
    """
    settings = load_settings()

    async def read(pool: Pool) -> list[dict[str, Any]]:
        return [dict(r) for r in await pool.fetch(queries("sync")["runs"], session, None, None, limit)]

    while True:
        rows = run_async(_in_database(settings, read))
        _show_runs(rows, as_json)
        if not watch or all(row["finished_at"] for row in rows):
            return
        time.sleep(2)


@sync.command()
def stop(session: _SomeSession = None, chat: _Chat = None) -> None:
    """Stop open requests. They keep their cursor; a process notices at its next page. Without a session all fetching stops.

    Examples:

      wapipe sync stop default

      wapipe sync stop

    Exit codes: 0 stopped, 2 wrong usage, 75 the database is away.
    """

    async def work(pool: Pool) -> int:
        if session is None:
            await pool.execute(queries("sync")["set_control"], True, False, None)
            return 0
        return len(await pool.fetch(queries("sync")["stop"], session, _chat(chat)))

    count = run_async(_in_database(load_settings(), work))
    out.print("all fetching is held until `wapipe sync resume`" if session is None else f"stopped {count} requests")


@sync.command()
def resume(session: _SomeSession = None, chat: _Chat = None) -> None:
    """Let stopped and failed requests go on at their cursor. Without a session fetching goes on that `stop` held.

    Examples:

      wapipe sync resume default

      wapipe sync resume

    Exit codes: 0 resumed, 2 wrong usage, 75 the database is away.
    """

    async def work(pool: Pool) -> int:
        if session is None:
            await pool.execute(queries("sync")["set_control"], False, False, None)
            return 0
        return len(await pool.fetch(queries("sync")["resume"], session, _chat(chat)))

    count = run_async(_in_database(load_settings(), work))
    out.print("fetching goes on" if session is None else f"resumed {count} requests")


@sync.command()
def rate(
    messages_per_s: Annotated[float, typer.Argument(help="Of each sync process; 0 is no limit.", min=0)],
) -> None:
    """Set how fast history may be fetched, now. Every sync process obeys within five seconds.

    Examples:

      wapipe sync rate 200

      wapipe sync rate 0

    Exit codes: 0 set, 2 wrong usage, 75 the database is away.
    """

    async def work(pool: Pool) -> None:
        await pool.execute(queries("sync")["set_control"], None, True, messages_per_s or None)

    run_async(_in_database(load_settings(), work))
    out.print(f"{messages_per_s:g} messages a second" if messages_per_s else "no limit")


@sync.command()
def coverage(session: _SomeSession = None, chat: _Chat = None, as_json: _Json = False) -> None:
    """Show how complete the archive is: true, false or unknown, from when to when, and the gaps that are open.

    Examples:

      wapipe sync coverage

      wapipe sync coverage default --chat 49151234567@c.us --json

    Exit codes: 0 all of it is complete, 1 some is not or nobody knows, 2 wrong usage, 75 the database is away.
    """

    async def read(pool: Pool) -> dict[str, Coverage]:
        names = [session] if session else [r["name"] for r in await pool.fetch(queries("gaps")["session_names"])]
        return {name: await read_coverage(pool, name, _chat(chat)) for name in names}

    found = run_async(_in_database(load_settings(), read))
    if as_json:
        out.print_json(data={name: asdict(one) for name, one in found.items()})
    else:
        _show_coverage(found)
    if any(one.complete != "true" for one in found.values()):
        raise typer.Exit(1)


async def _ask(settings: Settings, request: SyncRequest) -> None:
    await require_topics(settings.kafka, [SYNC])
    async with Publisher(settings.kafka) as publisher:
        if not await publisher.wait_ready(15):
            raise TransientError("kafka", "it did not answer within 15 s")
        await publish_requests(publisher, [request])


async def _in_database(settings: Settings, work: Callable[[Pool], Awaitable[T]]) -> T:
    async with await open_pool(settings.database, name="sync tool", max_size=1) as pool, translated():
        return await work(pool)


def _chat(text: str | None) -> str | None:
    """Raises typer.BadParameter for what is no chat."""
    if text is None or text == ALL_CHATS:
        return text
    if (found := to_chat(text)) is None:
        raise typer.BadParameter(f"{text!r} is no chat id and no phone number", param_hint="--chat")
    return found


def _time(text: str | None, default: datetime) -> datetime:
    if text is None:
        return default
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no ISO 8601 time such as 2026-07-25T10:00") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _show_runs(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        out.print_json(data=[{k: v.isoformat() if isinstance(v, datetime) else v for k, v in r.items()} for r in rows])
        return
    table = Table("session", "chat", "why", "status", "from", "to", "done", "seen", "new", "left", "error")
    for row in rows:
        share = _share(row)
        table.add_row(
            row["session"], row["chat"], row["reason"], row["status"], _shown(row["since_s"]), _shown(row["until_s"]),
            f"{share:.0%}", f"{row['seen']:,}", f"{row['new']:,}", _left(row, share), row["error"] or "",
        )  # fmt: skip
    out.print(table)


def _share(row: dict[str, Any]) -> float:
    """How much lies behind the cursor, of the window's time (nobody can count its messages), or how many chats are done."""
    if row["status"] == "completed":
        return 1.0
    if row["chats"]:
        return float(row["chats_done"] / row["chats"])
    if row["cursor_s"] is None:
        return 0.0
    return float((row["cursor_s"] - row["since_s"]) / max(1, row["until_s"] - row["since_s"]))


def _left(row: dict[str, Any], share: float) -> str:
    if row["status"] != "running" or share < 0.02 or row["started_at"] is None:
        return ""
    worked = row["updated_at"] - row["started_at"]
    return f"~{str(worked * (1 - share) / share).split('.', maxsplit=1)[0]}"


def _show_coverage(found: dict[str, Coverage]) -> None:
    table = Table("session", "complete", "from", "to", "missed by webhook", "open gaps", "why")
    for name, one in found.items():
        missed = f"{one.missed:,} of {one.looked_at:,}" if one.looked_at else ""
        span = [_shown(s) if s is not None else "" for s in (one.since_s, one.until_s)]
        table.add_row(name, one.complete, *span, missed, str(len(one.gaps)), one.why)
    out.print(table)


def _shown(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M")
