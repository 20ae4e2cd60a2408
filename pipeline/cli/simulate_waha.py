"""`wapipe simulate-waha`: a WAHA that has a history. Serves its REST and files, and posts what it told by webhook.

The server itself is producers.simulator.rest; it is imported by name only, since imports flow down from producers.
"""

from __future__ import annotations

import asyncio
import importlib
import time
from typing import Annotated, Any

import typer
from rich.console import Console

from pipeline.cli import run_async
from pipeline.lifecycle import install_signals, serve_http
from pipeline.settings import Settings, load_settings, require_secret

notes = Console(stderr=True, highlight=False)

_ENGINES = "WEBJS,WPP,NOWEB,GOWS"


def _past(help_: str, **more: Any) -> Any:
    return typer.Option(help=help_, rich_help_panel="History", **more)


def simulate_waha(  # noqa: PLR0917 - one parameter an option
    port: Annotated[
        int | None, typer.Option(help="WAPIPE_LOCAL_SIMULATOR_PORT if not given.", min=0, max=65535)
    ] = None,
    tell: Annotated[bool, typer.Option("--tell", help="Also post the history as signed webhooks, once.")] = False,
    lost: Annotated[float, typer.Option(min=0, max=1, help="Share of them that never arrives.")] = 0.0,
    page_ms: Annotated[float, typer.Option(min=0, help="A page of messages takes so long.")] = 0.0,
    row_ms: Annotated[float, typer.Option(min=0, help="And so much longer for each of its rows.")] = 0.0,
    engines: Annotated[str, _past("Engines, comma separated; sessions take them in turn.")] = _ENGINES,
    sessions: Annotated[int, _past("Sessions: demo-01, demo-02, …", min=1, max=999)] = 4,
    chats: Annotated[int, _past("Chats of each session.", min=1, max=100_000)] = 20,
    messages: Annotated[int, _past("Messages of each session.", min=0)] = 500,
    days: Annotated[float, _past("They lie so many days back from now at most.", min=0.01)] = 7.0,
    media: Annotated[float, _past("Share of messages with a file.", min=0, max=1)] = 0.15,
    seed: Annotated[int, _past("Same seed, same history (but for the time of day).")] = 1,
) -> None:
    """Play a WAHA that has a history: serve its REST and its files until SIGTERM.

    Needs WHATSAPP_API_KEY, as a real one does. Point wapipe at it with WAPIPE_WAHA_URL.
    Faults: POST /simulator/faults {"kind": "status", "path": "/messages", "status": 503, "times": 3}.

    Examples:

      wapipe simulate-waha --sessions 2 --messages 2000

      wapipe simulate-waha --tell --lost 0.05

    Exit codes: 0 stopped, 2 wrong usage, 78 no key or the port is taken.
    """
    settings = load_settings()
    key = require_secret(settings.waha.api_key, "WHATSAPP_API_KEY", "the simulated WAHA asks for it")
    rest = importlib.import_module("producers.simulator.rest")
    names = tuple(name.strip().upper() for name in engines.split(",") if name.strip())
    if unknown := set(names) - set(_ENGINES.split(",")):
        raise typer.BadParameter(f"engines are {_ENGINES}, not {', '.join(sorted(unknown))}")
    past = rest.Past(
        engines=names, sessions=sessions, chats=chats, messages=messages, days=days, media=media, seed=seed,
        end_s=int(time.time()),
    )  # fmt: skip
    server = rest.RestServer(rest.SimulatedWaha(past), key, page_s=page_ms / 1000, row_s=row_ms / 1000)
    run_async(_serve(settings, server, settings.local.simulator_port if port is None else port, lost if tell else None))


async def _serve(settings: Settings, server: Any, port: int, lost: float | None) -> None:
    stop = install_signals()
    async with asyncio.TaskGroup() as group:
        group.create_task(serve_http(server.app(), host="127.0.0.1", port=port, stop=stop, name="simulated WAHA"))
        total = sum(len(s.by_raw_id) for s in server.waha.sessions.values())
        notes.print(
            f"simulated WAHA on http://127.0.0.1:{port}: {len(server.waha.sessions)} sessions, {total:,} messages"
        )
        if lost is not None:
            group.create_task(_tell(settings, server, lost, stop))


async def _tell(settings: Settings, server: Any, lost: float, stop: asyncio.Event) -> None:
    simulator = importlib.import_module("producers.simulator")
    key = require_secret(settings.ingress.hmac_key, "WHATSAPP_HOOK_HMAC_KEY", "deliveries are signed with it")
    target = simulator.Target(f"{settings.origin}/webhook", key)
    report = await simulator.play(server.tell(lost), target, stop=stop)
    notes.print(f"told {report.delivered:,} of its messages by webhook")
