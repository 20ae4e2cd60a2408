"""`wapipe waha`: what WAHA's sessions are set to, what they should be set to, and setting it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from pipeline.cli import run_async
from pipeline.errors import ConfigError
from pipeline.postgres import open_pool, translated
from pipeline.settings import Settings, load_settings, require_secret
from pipeline.waha import Waha, WahaServers
from pipeline.waha.answers import SessionInfo, Version
from pipeline.waha.errors import KeyRefusedError
from pipeline.waha.heard import listening
from pipeline.waha.setup import Finding, Wanted, find_drift, judge_server, masked, needs_webhook, with_webhook
from schemas.ids import DEFAULT_SOURCE, qualify_session
from sql import queries

T = TypeVar("T")
waha = typer.Typer(help="What WAHA is set to: see it, check it, set it.", no_args_is_help=True)
out = Console(highlight=False)

_Json = Annotated[bool, typer.Option("--json", help="As JSON.")]
_Webhook = Annotated[
    str | None,
    typer.Option(help="The webhook as WAHA reaches it; WHATSAPP_HOOK_URL if not given, else this machine's."),
]


@waha.command()
def sessions(as_json: _Json = False) -> None:
    """List the sessions of every configured WAHA server, stopped ones included.

    Examples:

      wapipe waha sessions

    Exit codes: 0 listed, 75 a server is away, 78 a key is missing or refused.
    """
    found = run_async(_of_all(load_settings(), None, _listed))
    if as_json:
        out.print_json(data=found)
        return
    table = Table("session", "status", "engine", "WAHA", "account", "webhooks")
    for one in found:
        hooks = "\n".join(hook["url"] for hook in one["webhooks"])
        table.add_row(one["session"], one["status"], one["engine"], one["version"], one["account"] or "", hooks)
    out.print(table)


@waha.command()
def check(webhook: _Webhook = None, as_json: _Json = False) -> None:
    """Compare what every session is set to with what it needs: webhook, events, signature, retries, store.

    WAHA's environment (WHATSAPP_HOOK_*, WHATSAPP_FILES_LIFETIME) cannot be read; where it matters the answer says so.

    Examples:

      wapipe waha check

    Exit codes: 0 nothing is wrong, 1 something is, 75 a server or the database is away, 78 a key is missing or refused.
    """
    settings = load_settings()

    async def work(source: str, server: Waha, version: Version) -> list[dict[str, Any]]:
        wanted = _wanted(settings, source, webhook)
        heard = await _heard(settings)
        found = [_row(source, "", f) for f in judge_server(version.version, settings.media.files_lifetime_s)]
        for info in await server.sessions():
            name = qualify_session(source, info.name)
            found += [_row(source, name, f) for f in find_drift(info, wanted, heard.get(name))]
        return found

    found = run_async(_of_all(settings, None, work))
    _show(found, as_json)
    if any(row["wrong"] for row in found):
        raise typer.Exit(1)


@waha.command()
def connect(  # noqa: PLR0917 - one parameter an option
    url: Annotated[str, typer.Argument(help="The base URL of a configured WAHA server.")],
    webhook: _Webhook = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
    test: Annotated[
        bool,
        typer.Option("--test", help="Restart sessions that need no change as well, so that they deliver something."),
    ] = False,
    patience_s: Annotated[float, typer.Option("--patience", help="Seconds to wait for the deliveries.", min=0.1)] = 60,
    as_json: _Json = False,
) -> None:
    """Set the webhook of every session of a WAHA server: URL, all events, signature, retries; then see that it delivers.

    A session whose settings change restarts, a matter of seconds; the event it sends is the test. Other webhooks and settings
    of a session stay. What cannot be set from here is said. If WAHA has WHATSAPP_HOOK_URL too, each event comes twice and is
    stored once: leave one of them out.

    Examples:

      wapipe waha connect http://127.0.0.1:3311 --dry-run

      wapipe waha connect http://waha:3000 --webhook https://events.example.com/webhook

    Exit codes: 0 set and heard (or shown), 1 something is still wrong, 75 WAHA, broker or database is away, 78 no such server
    is configured, or its key is missing or refused.
    """
    settings = load_settings()
    source = _source_of(settings, url)
    wanted = _wanted(settings, source, webhook)

    async def work(_: str, server: Waha, version: Version) -> list[dict[str, Any]]:
        before = await server.sessions()
        changing = [info for info in before if needs_webhook(info, wanted)]
        if dry_run:
            return [_planned(source, info, wanted) for info in changing]
        found = [_row(source, "", f) for f in judge_server(version.version, settings.media.files_lifetime_s)]
        found += await _set(settings, source, server, changing, before if test else changing, wanted, patience_s)
        for info in await server.sessions():
            name = qualify_session(source, info.name)
            found += [_row(source, name, f) for f in find_drift(info, wanted, None)]
        return found

    found = run_async(_of_all(settings, source, work))
    if dry_run:
        _show_plan(found, as_json)
        return
    _show(found, as_json)
    if any(row["wrong"] for row in found):
        raise typer.Exit(1)


async def _set(  # noqa: PLR0917 - what is set, and where it is heard
    settings: Settings,
    source: str,
    server: Waha,
    changing: list[SessionInfo],
    tested: list[SessionInfo],
    wanted: Wanted,
    patience_s: float,
) -> list[dict[str, Any]]:
    """Sets the webhook of `changing`, restarts the others of `tested`, and says of whom nothing came."""
    awaited = {qualify_session(source, info.name) for info in tested if info.status != "STOPPED"}
    async with listening(settings.kafka) as ear:
        for info in changing:
            await server.configure(info.name, with_webhook(info.config, wanted))
        for info in tested:
            if info not in changing and info.status != "STOPPED":
                await server.restart(info.name)
        silent = awaited - await ear.hear(awaited, patience_s)
    said = (
        f"WAHA took the webhook, but nothing of it came within {patience_s:g} s: can WAHA reach {wanted.url} (from within its "
        "container, 127.0.0.1 is the container), and is wapipe's gateway or ingress up?"
    )
    return [_row(source, name, Finding("webhook", True, said)) for name in sorted(silent)]


async def _of_all(
    settings: Settings, only: str | None, work: Callable[[str, Waha, Version], Awaitable[list[T]]]
) -> list[T]:
    """What `work` makes of each server, or of one. Raises ConfigError when a key is refused."""
    found: list[T] = []
    async with WahaServers(settings.waha) as servers:
        for source, server in servers.items():
            if only in (None, source):
                try:
                    found += await work(source, server, await server.version())
                except KeyRefusedError as exc:
                    raise ConfigError(f"WAHA at {server.client.base_url} ({source}) refuses: {exc.detail}") from exc
    return found


async def _listed(source: str, server: Waha, version: Version) -> list[dict[str, Any]]:
    return [
        {
            "session": qualify_session(source, info.name), "status": info.status, "engine": info.engine or version.engine,
            "version": version.version, "account": info.me,
            "webhooks": [masked(h) for h in info.config.get("webhooks") or () if isinstance(h, dict)],
        }
        for info in await server.sessions()
    ]  # fmt: skip


async def _heard(settings: Settings) -> dict[str, str]:
    """When the last event of each session came."""
    async with await open_pool(settings.database, name="waha tool", max_size=1) as pool, translated():
        rows = await pool.fetch(queries("sessions")["heard"])
    return {row["name"]: row["last_event_at"].isoformat(timespec="seconds") for row in rows}


def _wanted(settings: Settings, source: str, webhook: str | None) -> Wanted:
    """Raises ConfigError when nothing is configured that events of the source could be known by."""
    url = (webhook or settings.waha.webhook_url or f"{settings.origin}/webhook").rstrip("/")
    own = settings.ingress
    if source != DEFAULT_SOURCE:
        name = f"WAPIPE_SOURCE_HMAC_KEYS[{source}]"
        key = require_secret(own.source_keys.get(source), name, "webhooks of that server are verified with it")
        return Wanted(f"{url}/{source}", key, None)
    if own.token and not own.hmac_key:
        return Wanted(url, None, require_secret(own.token, "WHATSAPP_WEBHOOK_TOKEN", "webhooks are told apart by it"))
    return Wanted(url, require_secret(own.hmac_key, "WHATSAPP_HOOK_HMAC_KEY", "webhooks are verified with it"), None)


def _source_of(settings: Settings, url: str) -> str:
    """Raises ConfigError for a server that is not configured: history and files would not be found."""
    for source, base in settings.waha.base_urls().items():
        if base.rstrip("/") == url.rstrip("/"):
            return source
    raise ConfigError(
        f"no configured WAHA is at {url}: set WAPIPE_WAHA_URL={url} and WHATSAPP_API_KEY (a further server: "
        "WAPIPE_WAHA_SOURCE_URLS, WAPIPE_WAHA_SOURCE_API_KEYS and WAPIPE_SOURCE_HMAC_KEYS): history and files come from it"
    )


def _row(source: str, session: str, finding: Finding) -> dict[str, Any]:
    return {"source": source, "session": session, **finding._asdict()}


def _planned(source: str, info: SessionInfo, wanted: Wanted) -> dict[str, Any]:
    hooks = [masked(hook) for hook in with_webhook(info.config, wanted)["webhooks"]]
    return {"session": qualify_session(source, info.name), "restarts": info.status != "STOPPED", "webhooks": hooks}


def _show(found: Iterable[dict[str, Any]], as_json: bool) -> None:
    rows = list(found)
    if as_json:
        out.print_json(data=rows)
        return
    for row in rows:
        where = row["session"] or f"server {row['source']}"
        mark = "[red]wrong[/]" if row["wrong"] else "[yellow]note[/] "
        out.print(f"{mark} {where}: {row['setting']}", end=" ")
        out.print(row["said"], markup=False, soft_wrap=True)
    if not any(row["wrong"] for row in rows):
        out.print("every session is set to what it needs")


def _show_plan(found: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        out.print_json(data=found)
        return
    for plan in found:
        out.print(f"{plan['session']} {'would restart with' if plan['restarts'] else 'would get'} config.webhooks:")
        out.print_json(data=plan["webhooks"])
    if not found:
        out.print("nothing would change")
