"""A TCP proxy that misbehaves on command, on 127.0.0.1: in front of the broker and of the database in the fault tests.

The mode holds for all connections, old and new, until the next one is set. A half-open connection never recovers, as
after a pulled cable; a stalled one goes on where it stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import Literal

from pipeline.local.ports import free_port

Mode = Literal["pass", "cut", "stall", "slow", "reset", "half-open"]
FAULTS: tuple[Mode, ...] = ("cut", "stall", "slow", "reset", "half-open")

_CHUNK = 64 * 1024
_SLOW_CHUNK = 4 * 1024
_RESET_AFTER_BYTES = 2000  # enough to log in to either server, so that the reset comes in the middle of work
_LINGER_0 = struct.pack("ii", 1, 0)


class Proxy:
    """Listens on `port` and forwards to `upstream` on the same host.

    `slow` means `bytes_per_s` in each direction of each connection, and `latency_s` before every piece.
    """

    def __init__(self, upstream: int, *, bytes_per_s: int = 20_000, latency_s: float = 0.05) -> None:
        self.port = free_port()
        self.mode: Mode = "pass"
        self._upstream, self._bytes_per_s, self._latency_s = upstream, bytes_per_s, latency_s
        self._open: dict[_Link, asyncio.Task[None]] = {}
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listens."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def stop(self) -> None:
        """Ends every connection and stops listening."""
        await self._unlisten()
        await self._reset_all()

    async def set(self, mode: Mode) -> None:
        """From now on. `pass` heals everything but connections that were half-open."""
        before, self.mode = self.mode, mode
        if mode == "cut":
            await self._unlisten()
            await self._reset_all()
        elif self._server is None:
            await self.start()
        if mode == "half-open":
            for link in self._open:
                link.lost = True
        if before == "half-open":
            for link in self._open:
                link.lost = True  # those made meanwhile went nowhere either
        if mode == "stall":
            self._flowing.clear()
        else:
            self._flowing.set()

    async def _unlisten(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()

    async def _reset_all(self) -> None:
        for link, task in list(self._open.items()):
            link.reset()
            task.cancel()
        await asyncio.gather(*self._open.values(), return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(writer, lost=self.mode == "half-open")
        task = asyncio.current_task()
        assert task
        self._open[link] = task
        try:
            await self._flowing.wait()
            with contextlib.suppress(OSError):
                upstream_reader, link.upstream = await asyncio.open_connection("127.0.0.1", self._upstream)
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pump(link, reader, link.upstream))
                    group.create_task(self._pump(link, upstream_reader, writer))
        except (asyncio.CancelledError, BaseExceptionGroup):
            pass  # cut from outside, or one side ended with an error: the other must learn it too
        finally:
            del self._open[link]
            link.reset() if self.mode in ("cut", "reset") else link.close()

    async def _pump(self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One direction until its end. Its end ends the other one as well: neither protocol half-closes."""
        while data := await reader.read(_SLOW_CHUNK if self.mode == "slow" else _CHUNK):
            await self._flowing.wait()
            if link.lost:
                continue
            if self.mode == "slow":
                await asyncio.sleep(self._latency_s + len(data) / self._bytes_per_s)
            if self.mode == "reset":
                link.passed += len(data)
                if link.passed > _RESET_AFTER_BYTES:
                    raise ConnectionResetError
            writer.write(data)
            await writer.drain()
        if link.lost:
            await asyncio.Event().wait()  # nobody hears that the other side is gone
        raise ConnectionResetError


class _Link:
    """One connection through the proxy."""

    def __init__(self, client: asyncio.StreamWriter, *, lost: bool) -> None:
        self.client, self.lost = client, lost
        self.upstream: asyncio.StreamWriter | None = None
        self.passed = 0  # bytes since the connection was told to be reset

    def reset(self) -> None:
        """Both ends get RST."""
        for writer in (self.client, self.upstream):
            if writer is not None:
                with contextlib.suppress(OSError):
                    raw: socket.socket = writer.get_extra_info("socket")
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
                writer.transport.abort()

    def close(self) -> None:
        """Both ends get FIN."""
        for writer in (self.client, self.upstream):
            if writer is not None:
                writer.close()
