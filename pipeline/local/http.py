"""A GET to one of our own processes on this machine: readiness and metrics.

Polled many times a second at a start, by plain streams: a client library would cost more than what it asks.
"""

from __future__ import annotations

import asyncio
import contextlib

_TIMEOUT_S = 3


async def fetch(port: int, path: str) -> tuple[int, str]:
    """Status and body; (0, "") if nobody answers properly within 3 s."""
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            answer = await _exchange(port, path)
    except OSError:  # TimeoutError is one
        return 0, ""
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    code = int(words[1]) if len(words) > 1 and words[1][:3].isdigit() else 0
    return code, body.decode("utf-8", "replace")


async def _exchange(port: int, path: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
        await writer.drain()
        return await reader.read(-1)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
