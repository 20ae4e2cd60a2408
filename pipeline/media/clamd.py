"""A virus scanner by address: clamd's INSTREAM, a connection a file, the file in pieces with their length before them.

Its answer is `stream: OK`, `stream: NAME FOUND`, or an ERROR; the name of what it found goes into the job's last error.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pipeline.errors import TransientError
from pipeline.media.scan import QuarantinedError, UnscannableError


class ClamdScanner:
    """A Scanner at `host:port`, `[v6 address]:port` or the path of a unix socket."""

    def __init__(self, address: str, *, timeout_s: float) -> None:
        self._address, self._timeout_s = address, timeout_s

    @asynccontextmanager
    async def scan(self) -> AsyncIterator[ClamdScan]:
        """See Scanner."""
        try:
            reader, writer = await asyncio.wait_for(self._connect(), self._timeout_s)
        except OSError as exc:  # TimeoutError is one
            raise TransientError("scanner", f"clamd: {type(exc).__name__}") from exc
        # Read from the start: clamd may answer before the end and hang up, and then only who reads already gets it.
        answer = asyncio.create_task(reader.readuntil(b"\0"))
        try:
            writer.write(b"zINSTREAM\0")
            yield ClamdScan(answer, writer, self._timeout_s)
        finally:
            answer.cancel()
            await asyncio.gather(answer, return_exceptions=True)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._address.startswith("/"):
            return await asyncio.open_unix_connection(self._address)
        host, _, port = self._address.rpartition(":")
        return await asyncio.open_connection(host.strip("[]"), int(port))


class ClamdScan:
    """A Scan over one connection."""

    def __init__(self, answer: asyncio.Task[bytes], writer: asyncio.StreamWriter, timeout_s: float) -> None:
        self._answer, self._writer, self._timeout_s = answer, writer, timeout_s

    async def feed(self, chunk: bytes) -> None:
        """See Scan. An empty piece would end the file."""
        if chunk:
            await self._send(len(chunk).to_bytes(4, "big"), chunk)

    async def verdict(self) -> None:
        """See Scan."""
        await self._send(bytes(4))
        try:
            answer = await asyncio.wait_for(self._answer, self._timeout_s)
        except TimeoutError:
            raise TransientError("scanner", "clamd: no answer in time") from None
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError) as exc:
            raise TransientError("scanner", f"clamd: {type(exc).__name__}") from exc
        _judge(answer.rstrip(b"\0").decode("utf-8", "replace"))

    async def _send(self, *parts: bytes) -> None:
        if self._answer.done():
            return
        try:
            self._writer.writelines(parts)
            await asyncio.wait_for(self._writer.drain(), self._timeout_s)
        except TimeoutError:
            raise TransientError("scanner", "clamd does not read on") from None
        except ConnectionError:
            await asyncio.wait([self._answer], timeout=self._timeout_s)  # it hung up: there is an answer, or never one


def _judge(answer: str) -> None:
    if answer.endswith(": OK"):
        return
    if answer.endswith(" FOUND"):
        raise QuarantinedError(answer.removeprefix("stream: ").removesuffix(" FOUND"))
    if "size limit exceeded" in answer:
        raise UnscannableError("larger than clamd's StreamMaxLength")
    raise TransientError("scanner", f"clamd: {answer}"[:200])
