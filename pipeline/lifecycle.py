"""Start and stop: signals into an event, HTTP servers that obey it, processes side by side. No process is known here."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from socket import IPPROTO_TCP, TCP_NODELAY
from typing import Any

import uvicorn

from pipeline.errors import ConfigError, FatalError

log = logging.getLogger("wapipe.lifecycle")
ASGIApp = Callable[..., Awaitable[None]]
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h

_stop: asyncio.Event | None = None


def stop_event() -> asyncio.Event:
    """Set when this process should stop. One for the process: SIGTERM or SIGINT set it, a second one aborts."""
    global _stop  # noqa: PLW0603 - a process has one fate
    if _stop is None:
        _stop = asyncio.Event()
    return _stop


def install_signals() -> asyncio.Event:
    """SIGTERM and SIGINT stop gently; the second one ends the process at once (safe: every write is idempotent)."""
    event, loop = stop_event(), asyncio.get_running_loop()

    def on_signal(signum: int) -> None:
        if event.is_set():
            log.warning("process.aborted", extra={"signal": signum})
            os._exit(128 + signum)
        log.info("process.stopping", extra={"signal": signum})
        event.set()

    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, on_signal, signum)
    return event


def tune_gc() -> None:
    """Fewer collections: batches make thousands of short-lived containers, none of them cyclic."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 50, 100)


def keep_memory() -> None:
    """What a batch leaves free serves the next one. By default glibc gives large blocks back, and the kernel clears them
    again page by page: every third record cost one. Answers of 8 MB and their copies are what comes and goes here."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:  # musl has none
        mallopt(_M_MMAP_THRESHOLD, 32 * 1024 * 1024)
        mallopt(_M_TRIM_THRESHOLD, 64 * 1024 * 1024)


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: the process has one place for them."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        """Leaves the signals alone."""
        yield


async def serve_http(app: ASGIApp, *, host: str, port: int, stop: asyncio.Event, name: str) -> None:
    """Serves `app` until `stop` is set, then lets requests in flight finish (10 s). Raises ConfigError if the port is taken."""
    config = uvicorn.Config(
        app, host=host, port=port, log_config=None, log_level="warning", access_log=False,
        server_header=False, date_header=False, proxy_headers=False,
        timeout_graceful_shutdown=10, timeout_keep_alive=75, lifespan="on", backlog=2048,
    )  # fmt: skip
    server = _Server(config)
    try:
        socket = config.bind_socket()
    except SystemExit:
        raise ConfigError(f"{name}: port {port} on {host} cannot be used (is it taken?); choose another") from None
    # uvicorn's sockets come without it on asyncio's own loop, which costs 40 ms an answer; accepted ones inherit it.
    socket.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
    log.info("http.serving", extra={"server": name, "host": host, "port": socket.getsockname()[1]})
    serving = asyncio.create_task(server.serve(sockets=[socket]))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        await serving
    finally:
        stopping.cancel()
        server.should_exit = True
        socket.close()


@contextlib.contextmanager
def ends_within(limit_s: float) -> Iterator[None]:
    """Ends the process (status 70) when the block takes longer, and says where every task stands.

    Whoever told it to stop waits for it, and what it holds is safe: every write is idempotent.
    """
    timer = asyncio.get_running_loop().call_later(limit_s, _end_stuck, limit_s)
    try:
        yield
    finally:
        timer.cancel()


def _end_stuck(limit_s: float) -> None:
    for task in asyncio.all_tasks():
        stands = [f"{frame.f_code.co_filename}:{frame.f_lineno}" for frame in task.get_stack()]
        log.error("process.stuck", extra={"seconds": limit_s, "task": task.get_name(), "stands_at": " < ".join(stands)})
    os._exit(FatalError.exit_code)


@contextlib.asynccontextmanager
async def background(*tasks: Awaitable[None]) -> AsyncIterator[None]:
    """Runs `tasks` beside the block and cancels them at its end; one that fails ends the block with its error."""
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(_as_coroutine(t)) for t in tasks]
        try:
            yield
        finally:
            for task in running:
                task.cancel()


async def _as_coroutine(awaitable: Awaitable[None]) -> None:
    await awaitable
