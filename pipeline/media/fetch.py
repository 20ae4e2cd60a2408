"""HTTP of files: streamed, from where the guard allows, with the address looked at when the connection is made.

aiohttp, which costs a twentieth of httpx's CPU a request (producers/simulator/player.py has the figures). No cookies, no
proxies of the environment, no redirects but those that stay with the origin.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from pipeline.errors import TransientError
from pipeline.media.origins import Addresses, Guard, OriginRefusedError, Target, kind_of

_MAX_REDIRECTS = 3
_STALL_S = 30.0  # a server that sends nothing for so long is given up
_CHUNK_BYTES = 256 * 1024
_REDIRECTS = (301, 302, 303, 307, 308)
_AWAY = (429, 502, 503, 504)


class GoneError(Exception):
    """It is not (any more) at this place."""


class BrokenFileError(Exception):
    """What came is not the file. `reason` is a slug of a closed set."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


@dataclass(slots=True)
class Body:
    """A file on its way. `bucket`, `key` and `etag`: where it lies in the store, if it can be copied there."""

    length: int | None
    chunks: AsyncIterator[bytes]
    bucket: str | None = None
    key: str | None = None
    etag: str | None = None


class Fetcher:
    """HTTP client of all WAHA servers. Enter it as an async context."""

    def __init__(self, *, connections: int, timeout_s: float, addresses: Addresses | None = None) -> None:
        self._connections, self._timeout_s = connections, timeout_s
        self._addresses = addresses or Addresses()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Fetcher:
        connector = aiohttp.TCPConnector(
            limit=self._connections,
            resolver=_Resolver(self._addresses),
            use_dns_cache=False,
            socket_factory=_checked_socket,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=self._timeout_s, sock_connect=10, sock_read=_STALL_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            headers={"Accept-Encoding": "identity", "User-Agent": "wapipe"},
            read_bufsize=_CHUNK_BYTES,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None
        await self._session.close()

    @asynccontextmanager
    async def get(self, guard: Guard, url: str, api_key: str | None) -> AsyncIterator[Body]:
        """The file at `url`. Raises OriginRefusedError, GoneError, BrokenFileError, TransientError."""
        target = guard.target(url)
        try:
            for _ in range(_MAX_REDIRECTS):
                async with self._ask(target, api_key) as answer:
                    if answer.status in _REDIRECTS:
                        target = guard.redirected(target, answer.headers.get("Location", ""))
                        continue
                    _require_file(answer, target)
                    yield Body(answer.content_length, answer.content.iter_chunked(_CHUNK_BYTES))
                    return
            raise BrokenFileError("too_many_redirects")
        except aiohttp.ClientPayloadError as exc:  # the connection ended before Content-Length did
            raise BrokenFileError("length_mismatch", str(exc)[:100]) from exc
        except aiohttp.ClientError as exc:
            if _is_refused(exc):
                raise OriginRefusedError("address_refused") from exc
            raise TransientError("waha", f"{type(exc).__name__}: {exc}"[:200]) from exc
        except OSError as exc:  # TimeoutError is one
            raise TransientError("waha", f"{type(exc).__name__}: {exc}"[:200]) from exc

    def _ask(self, target: Target, api_key: str | None) -> Any:
        assert self._session is not None
        headers = {"X-Api-Key": api_key} if target.with_key and api_key else {}
        url = URL(target.url, encoded=True)  # a signature covers every letter of it
        return self._session.get(url, headers=headers, allow_redirects=False)


def _require_file(answer: aiohttp.ClientResponse, target: Target) -> None:
    status = answer.status
    if status == 200:
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            raise BrokenFileError("encoded")
        return
    if status in _AWAY or (target.with_key and status in (401, 403)):  # a wrong key is an operator's to mend
        raise TransientError("waha", f"the file was answered {status}")
    if status >= 500:
        raise BrokenFileError("http_error", str(status))
    raise GoneError(f"answered {status}")


class _RefusedAddressError(OSError):
    """As aiohttp passes it on, wrapped."""


def _is_refused(exc: BaseException | None) -> bool:
    while exc is not None and not isinstance(exc, _RefusedAddressError):
        exc = exc.__cause__
    return exc is not None


class _Resolver(AbstractResolver):
    """Names to addresses for one connection; an address that the guard refuses is none."""

    def __init__(self, addresses: Addresses) -> None:
        self._inner, self._addresses = ThreadedResolver(), addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """See class."""
        found = await self._inner.resolve(host, port, family)
        for address in found:
            try:
                self._addresses.check(host, address["host"])
            except OriginRefusedError as exc:
                raise _RefusedAddressError(exc.reason) from exc
        return found

    async def close(self) -> None:
        """See class."""
        await self._inner.close()


def _checked_socket(info: Any) -> socket.socket:
    """The socket for an address, also for one that was written as a number and never resolved."""
    family, kind, protocol, _, address = info
    if kind_of(address[0]) == "refused":
        raise _RefusedAddressError("address_refused")
    return socket.socket(family=family, type=kind, proto=protocol)
