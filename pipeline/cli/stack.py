"""`wapipe up`, `down` and `status`: the local stack from the command line. The work is in pipeline.local."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table

from pipeline.errors import ConfigError
from pipeline.local.meter import Meter, Reading
from pipeline.local.plan import SERVERS
from pipeline.local.stack import Stack, data_folder, is_running, read_stack, stop_stack
from pipeline.local.state import ProcessState, StackState
from pipeline.process import Process
from pipeline.registry import registry, select
from pipeline.settings import load_settings

EXIT_FAILED, EXIT_NOT_RUNNING, EXIT_INTERRUPTED = 1, 3, 130
_POLL_S = 0.1
_COLORS = {"ready": "green", "starting": "yellow", "backoff": "yellow", "failed": "red", "stopped": "dim"}

DataOption = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="Data folder. Default: WAPIPE_DATA_DIR, or ./.wapipe."),
]


def up(
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return once all is ready; it goes on.")] = False,
    only: Annotated[
        str | None,
        typer.Option("--only", metavar="NAMES", help="Some of kafka, postgres, s3 and processes, with commas."),
    ] = None,
    data: DataOption = None,
) -> None:
    """Start the local stack: a real Kafka, PostgreSQL and S3, the migrations, the topics and every process.

    It stays until Ctrl-C (or `wapipe down`); a process that dies is started again, after 0.5 s at first, 30 s
    at most. With --only, only the named ones are started, and migrations only together with a process.

    Examples:

      wapipe up

      wapipe up --detach && wapipe status

      wapipe up --only kafka,postgres,s3 --data /tmp/servers

    Exit codes: 0 stopped as asked, or ready with --detach; 1 something did not start (its last log lines
    are shown); 78 the configuration cannot work (a missing secret, a port in use); 130 interrupted at start.
    """
    servers, processes = _chosen(only)
    settings = load_settings()
    console = Console(highlight=False)
    folder = data_folder(settings, data)
    stack = Stack(settings, folder, servers=servers, processes=processes, say=lambda text: _say(console, text))
    code = asyncio.run(_detached(console, folder, only) if detach else _attached(console, stack))
    raise typer.Exit(code)


def down(data: DataOption = None) -> None:
    """Stop the local stack and wait until it is gone.

    Examples:

      wapipe down

      wapipe down --data /tmp/servers

    Exit codes: 0 stopped, or nothing was running; 78 the configuration cannot work.
    """
    console = Console(highlight=False)
    stopped = asyncio.run(stop_stack(data_folder(load_settings(), data)))
    console.print("stopped" if stopped else "nothing is running")


def status(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
    data: DataOption = None,
) -> None:
    """Show every process of the local stack: pid, state, restarts, port, records a second, lag.

    Examples:

      wapipe status

      wapipe status --json | jq '.processes[] | select(.state != "ready")'

    Exit codes: 0 all are ready; 1 something is not; 3 no stack is running; 78 the configuration cannot work.
    """
    console = Console(highlight=False)
    folder = data_folder(load_settings(), data)
    state = read_stack(folder)
    if state is None or not is_running(folder):
        if as_json:
            _print_json({"data": str(folder), "pid": None, "state": "stopped", "processes": []})
        else:
            console.print(f"no stack is running with {folder}; `wapipe up` starts one", soft_wrap=True)
        raise typer.Exit(EXIT_NOT_RUNNING)
    readings = asyncio.run(_measure(state.processes))
    if as_json:
        _print_json(_as_object(folder, state, readings))
    else:
        console.print(table(state.processes, readings))
    well = state.state == "ready" and all(p.state == "ready" for p in state.processes)
    raise typer.Exit(0 if well else EXIT_FAILED)


def table(processes: tuple[ProcessState, ...], readings: dict[str, Reading]) -> Table:
    """The processes as a table; the demo shows the same one."""
    out = Table("name", "pid", "state", box=None, pad_edge=False, header_style="bold")
    for column in ("restarts", "port", "rate/s", "lag"):
        out.add_column(column, justify="right")
    for p in processes:
        reading = readings.get(p.name, Reading())
        out.add_row(
            p.name, _shown(p.pid), f"[{_COLORS[p.state]}]{p.state}[/]", str(p.restarts), _shown(p.port),
            _shown(reading.rate), _shown(reading.lag),
        )  # fmt: skip
    return out


def _chosen(only: str | None) -> tuple[tuple[str, ...], list[Process]]:
    """Servers and processes that --only names; all of them without it."""
    if only is None:
        return SERVERS, select(["all"])
    names = [n.strip() for n in only.split(",") if n.strip()]
    known = registry()
    unknown = [n for n in names if n not in SERVERS and n not in known]
    if unknown or not names:
        raise ConfigError(f"--only {only}: there are {', '.join(SERVERS)}; and {', '.join(known)}")
    return tuple(n for n in names if n in SERVERS), [known[n] for n in dict.fromkeys(names) if n in known]


async def _attached(console: Console, stack: Stack) -> int:
    """Runs the stack until a signal; a second signal kills it."""
    stop, work = asyncio.Event(), asyncio.create_task(_start(stack))

    def on_signal(number: int) -> None:
        if stop.is_set():
            stack.kill()
            os._exit(128 + number)
        stop.set()
        work.cancel()  # a start under way is given up; one that is done does not notice
        _say(console, "stopping (again to kill)")

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal, number)
    try:
        await work
    except asyncio.CancelledError:
        return EXIT_INTERRUPTED
    try:
        _welcome(console, stack)
        await stop.wait()
    finally:
        await stack.__aexit__(None, None, None)
    return 0


async def _start(stack: Stack) -> None:
    await stack.__aenter__()


def _welcome(console: Console, stack: Stack) -> None:
    console.print(table(stack.snapshot(), {}))
    _say(console, f"ready; data and logs are in {stack.data}")


async def _detached(console: Console, folder: Path, only: str | None) -> int:
    """Starts `wapipe up` in a session of its own and returns when it is ready, or with its exit code."""
    log = folder / "logs" / "supervisor.log"
    await asyncio.to_thread(log.parent.mkdir, parents=True, exist_ok=True, mode=0o700)
    argv = [sys.executable, "-m", "pipeline.cli", "up", "--data", str(folder)]
    argv += ["--only", only] if only is not None else []
    with log.open("wb") as output:
        child = subprocess.Popen(  # noqa: S603, ASYNC220 - ours; not waited for: it outlives us
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    try:
        return await _follow(console, child, log, folder)
    except (asyncio.CancelledError, KeyboardInterrupt):
        child.terminate()
        await asyncio.to_thread(child.wait)
        raise


async def _follow(console: Console, child: subprocess.Popen[bytes], log: Path, folder: Path) -> int:
    with log.open("r", encoding="utf-8", errors="replace") as lines:
        while True:
            ended, state = child.poll(), read_stack(folder)
            for line in lines:
                console.print(line.rstrip("\n"), markup=False, soft_wrap=True)
            if ended is not None:
                return ended or EXIT_FAILED
            if state is not None and state.pid == child.pid and state.state == "ready":
                child.returncode = 0  # it goes on without us: no warning that it was not waited for
                return 0
            await asyncio.sleep(_POLL_S)


async def _measure(processes: tuple[ProcessState, ...]) -> dict[str, Reading]:
    """Two readings a second apart of everything that serves metrics."""
    meter = Meter()
    ports = {p.name: p.port for p in processes if p.port is not None and p.name not in SERVERS and p.pid is not None}
    found: dict[str, Reading] = {}
    for pause_s in (1, 0):
        readings = await asyncio.gather(*(meter.read(port) for port in ports.values()))
        found = dict(zip(ports, readings, strict=True))
        if any(r.work is not None for r in readings):
            await asyncio.sleep(pause_s)
    return found


def _as_object(folder: Path, state: StackState, readings: dict[str, Reading]) -> dict[str, Any]:
    def one(p: ProcessState) -> dict[str, Any]:
        reading = readings.get(p.name, Reading())
        figures = {"rate_per_s": reading.rate, "lag_records": reading.lag}
        return {
            "name": p.name, "pid": p.pid, "state": p.state, "restarts": p.restarts, "port": p.port,
            "started_at": p.started_at, "log": p.log, "ended": p.ended, **figures,
        }  # fmt: skip

    processes = [one(p) for p in state.processes]
    return {"data": str(folder), "pid": state.pid, "state": state.state, "processes": processes}


def _print_json(value: dict[str, Any]) -> None:
    sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    sys.stdout.buffer.flush()


def _shown(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if isinstance(value, float) and not value.is_integer() else f"{value:.0f}"


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, soft_wrap=True)
