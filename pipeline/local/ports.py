"""Ports of the local stack: choosing free ones, and saying who holds one that is not.

Free ports are taken below the kernel's range for outgoing connections, where nothing can slip in between the
choice and the server's bind except another server.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket

import psutil

from pipeline.errors import ConfigError

_LOW, _HIGH = 20_000, 32_000  # Linux hands out 32768–60999 to outgoing connections
_POLL_S = 0.05
_given: set[int] = set()  # chosen by this process and perhaps not bound yet


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """True if a server could bind host:port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port that nobody listens on and that this process has not handed out before."""
    for _ in range(1000):
        port = random.SystemRandom().randrange(_LOW, _HIGH)
        if port not in _given and is_free(port) and is_free(port, "0.0.0.0"):  # noqa: S104 - a probe, closed at once
            _given.add(port)
            return port
    raise ConfigError(f"no free port between {_LOW} and {_HIGH}")


async def require_free(port: int, service: str, variable: str, patience_s: float = 1.0) -> None:
    """Raises ConfigError that names the holder of `port` and the variable that moves `service` elsewhere.

    Waits a moment first: the kernel closes the ports of a killed process a little after its end.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(patience_s):
            while not is_free(port):  # noqa: ASYNC110 - the kernel tells nobody
                await asyncio.sleep(_POLL_S)
            return
    raise ConfigError(
        f"port {port} for {service} is in use by {holder(port)}; stop it, or set {variable} to another port"
    )


def holder(port: int) -> str:
    """Who listens on `port`, as 'PID (command)'; 'another process' when that may not be seen."""
    try:
        listening = (c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and c.pid)
        found = [c.pid for c in listening if c.laddr and c.laddr.port == port]
        if found:
            return f"{found[0]} ({' '.join(psutil.Process(found[0]).cmdline())[:100]})"
    except (psutil.AccessDenied, psutil.NoSuchProcess):
        pass
    return "another process"
