"""A simulated WAHA behind a real port in the test's own event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from socket import socket

import uvicorn

from producers.simulator.rest import RestServer


class _Server(uvicorn.Server):
    """Says when it answers; `_serve` leaves the signals to pytest."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


@asynccontextmanager
async def served(server: RestServer, *, port: int = 0) -> AsyncIterator[str]:
    """The base URL while it answers."""
    config = uvicorn.Config(
        server.app(), host="127.0.0.1", port=port, log_config=None, lifespan="off", timeout_graceful_shutdown=1
    )
    bound: socket = config.bind_socket()
    running = _Server(config)
    task = asyncio.create_task(running._serve(sockets=[bound]))
    try:
        await running.ready.wait()
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    finally:
        running.should_exit = True
        await task
        bound.close()
