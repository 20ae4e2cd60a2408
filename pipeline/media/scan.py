"""The hook for virus scanners, and the first of them: a command that gets the file on its standard input and says by its
exit code what it is. The other is clamd.py.

0 clean, 1 quarantine it, anything else: it could not tell, so the file waits. These are clamdscan's codes.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from pipeline.errors import TransientError


class QuarantinedError(Exception):
    """The scanner does not want this file."""


class UnscannableError(Exception):
    """The scanner will never look at this file."""


class Scan(Protocol):
    """A file that is being looked at."""

    async def feed(self, chunk: bytes) -> None:
        """More of it. A scanner that has seen enough may stop reading. Raises TransientError."""

    async def verdict(self) -> None:
        """After the last byte. Raises QuarantinedError, UnscannableError, TransientError when it cannot tell now."""


class Scanner(Protocol):
    """Looks at files, each in a context of its own."""

    def scan(self) -> AbstractAsyncContextManager[Scan]:
        """One file. Raises TransientError when the scanner is away."""


class CommandScanner:
    """A Scanner that is a configured command; no shell reads it."""

    def __init__(self, command: str, *, timeout_s: float) -> None:
        self._arguments, self._timeout_s = shlex.split(command), timeout_s

    @asynccontextmanager
    async def scan(self) -> AsyncIterator[CommandScan]:
        """See Scanner. The command is gone afterwards."""
        pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        try:
            process = await asyncio.create_subprocess_exec(*self._arguments, stdin=pipe, stdout=nothing, stderr=nothing)
        except OSError as exc:
            raise TransientError("scanner", f"{type(exc).__name__}: {exc.strerror}") from exc
        try:
            yield CommandScan(process, self._timeout_s)
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()


class CommandScan:
    """A Scan by one process."""

    def __init__(self, process: asyncio.subprocess.Process, timeout_s: float) -> None:
        self._process, self._timeout_s = process, timeout_s

    async def feed(self, chunk: bytes) -> None:
        """See Scan."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(chunk)
            await asyncio.wait_for(self._process.stdin.drain(), self._timeout_s)
        except TimeoutError:
            raise TransientError("scanner", "it does not read on") from None
        except ConnectionError:
            return

    async def verdict(self) -> None:
        """See Scan."""
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
