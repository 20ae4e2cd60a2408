"""The hook for virus scanners: a command that gets the file on its standard input and says by its exit code what it is.

0 clean, 1 quarantine it, anything else: it could not tell, so the file waits. These are clamdscan's codes.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pipeline.errors import TransientError


class QuarantinedError(Exception):
    """The scanner does not want this file."""


class Scanner:
    """A configured command; no shell reads it."""

    def __init__(self, command: str, *, timeout_s: float) -> None:
        self._arguments, self._timeout_s = shlex.split(command), timeout_s

    @asynccontextmanager
    async def scan(self) -> AsyncIterator[Scan]:
        """One file. The command is gone afterwards. Raises TransientError when it cannot be started."""
        pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        try:
            process = await asyncio.create_subprocess_exec(*self._arguments, stdin=pipe, stdout=nothing, stderr=nothing)
        except OSError as exc:
            raise TransientError("scanner", f"{type(exc).__name__}: {exc.strerror}") from exc
        try:
            yield Scan(process, self._timeout_s)
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()


class Scan:
    """A file that is being looked at."""

    def __init__(self, process: asyncio.subprocess.Process, timeout_s: float) -> None:
        self._process, self._timeout_s = process, timeout_s

    async def feed(self, chunk: bytes) -> None:
        """More of it. A command that has seen enough may stop reading."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(chunk)
            await asyncio.wait_for(self._process.stdin.drain(), self._timeout_s)
        except TimeoutError:
            raise TransientError("scanner", "it does not read on") from None
        except ConnectionError:
            return

    async def verdict(self) -> None:
        """After the last byte. Raises QuarantinedError, TransientError."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            code = await asyncio.wait_for(self._process.wait(), self._timeout_s)
        except TimeoutError:
            raise TransientError("scanner", "no answer in time") from None
        if code == 1:
            raise QuarantinedError
        if code != 0:
            raise TransientError("scanner", f"exit code {code}")
