"""Where a file may be fetched from: the guard between what a payload says and what this process connects to.

Pure, but for the classes of addresses that it remembers. A URL of WAHA's own file paths is asked of the configured WAHA,
whatever host it names; any other must be of a configured origin, letter by letter, so that a decimal, octal or hidden
spelling of a host is nobody's. What a name resolves to is looked at when the connection is made (fetch.py).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field
from posixpath import normpath
from urllib.parse import unquote, urlsplit

WAHA_PATHS = ("/api/files/", "/api/s3/")
_PORTS = {"http": 80, "https": 443}
_MAX_URL_CHARS = 4096
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class OriginRefusedError(Exception):
    """This is fetched from nowhere. `reason` is a slug of a closed set."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Origin:
        """Of a URL. Raises OriginRefusedError for one that no file is fetched from."""
        if len(url) > _MAX_URL_CHARS or not url.isascii() or any(c <= " " or c in "\\\x7f" for c in url):
            raise OriginRefusedError("url_malformed")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise OriginRefusedError("url_malformed") from None
        if parts.scheme not in _PORTS:
            raise OriginRefusedError("scheme_refused")
        if "@" in parts.netloc:
            raise OriginRefusedError("credentials_in_url")
        if not parts.hostname:
            raise OriginRefusedError("url_malformed")
        return cls(parts.scheme, parts.hostname.removesuffix("."), port or _PORTS[parts.scheme])

    @property
    def base(self) -> str:
        """As the beginning of a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Target:
    """What is asked of whom. `with_key`: the API key of the WAHA server goes along."""

    url: str
    origin: Origin
    with_key: bool


@dataclass(slots=True)
class Guard:
    """Of one WAHA server: its base URL, and further origins (its S3) from which presigned URLs are taken."""

    base_url: str
    others: Iterable[str] = ()
    _waha: Origin = field(init=False)
    _others: frozenset[Origin] = field(init=False)
    _prefix: str = field(init=False)  # of a WAHA that is served below a path

    def __post_init__(self) -> None:
        self._waha = Origin.of(self.base_url)
        self._prefix = urlsplit(self.base_url).path.rstrip("/")
        self._others = frozenset(Origin.of(url) for url in self.others)

    def target(self, url: str) -> Target:
        """What to ask for the file at `url`. Raises OriginRefusedError."""
        origin = Origin.of(url)
        parts = urlsplit(url)
        if origin in self._others and origin != self._waha:
            return Target(url, origin, with_key=False)
        path = parts.path.removeprefix(self._prefix)
        if not _is_file_path(path) or parts.query:  # WAHA's own have no query, a presigned one of another store does
            raise OriginRefusedError("origin_refused")
        return Target(f"{self._waha.base}{self._prefix}{path}", self._waha, with_key=True)

    def redirected(self, before: Target, location: str) -> Target:
        """Where a redirect leads, if it stays with the origin it came from. Raises OriginRefusedError."""
        if location.startswith("/") and not location.startswith("//"):
            location = before.origin.base + location
        origin = Origin.of(location)
        if origin != before.origin:
            raise OriginRefusedError("redirect_refused")
        if before.with_key and not _is_file_path(urlsplit(location).path.removeprefix(self._prefix)):
            raise OriginRefusedError("redirect_refused")
        return Target(location, origin, before.with_key)


def _is_file_path(path: str) -> bool:
    """One of WAHA's paths to files, also after whoever serves it has taken dots and escapes apart."""
    plain = unquote(unquote(path))
    inside = any(path.startswith(prefix) and normpath(plain).startswith(prefix) for prefix in WAHA_PATHS)
    return inside and ".." not in plain.split("/") and "\\" not in plain and "\x00" not in plain


class Addresses:
    """Remembers of which kind the addresses of an origin are: one that was public is not found in the local network
    later, whatever its name resolves to then."""

    def __init__(self) -> None:
        self._kinds: dict[str, str] = {}

    def check(self, host: str, address: str) -> None:
        """Raises OriginRefusedError unless `host` may have this address."""
        kind = kind_of(address)
        if kind == "refused" or self._kinds.setdefault(host, kind) != kind:
            raise OriginRefusedError("address_refused")


def kind_of(address: str) -> str:
    """loopback, private, public, or refused: link-local (a cloud's metadata), multicast, unspecified, reserved."""
    found = _unwrapped(ipaddress.ip_address(address.partition("%")[0]))
    if found.is_loopback:
        return "loopback"
    if found.is_link_local or found.is_multicast or found.is_unspecified or found.is_reserved:
        return "refused"
    return "public" if found.is_global else "private"


def _unwrapped(address: Address) -> Address:
    """The IPv4 address inside an IPv6 one: mapped, 6to4, NAT64."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
