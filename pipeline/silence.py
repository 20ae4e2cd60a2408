"""A connection to the broker on which nothing moves although an answer is due is closed; aiokafka then makes a new one.

When the other side vanishes without a word (a host, a cable, an entry in a NAT table) no error comes, and aiokafka waits
for its request timeout: 40 s, and no less than a rebalance may take. Bounded here is not the time of a request but the
silence, so a large answer over a slow line has its time. `pipeline.broker` puts it into aiokafka.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import socket
import struct
import sys
import time
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

from aiokafka.conn import CloseReason

log = logging.getLogger("wapipe.silence")

# Looks, not seconds: a process that stood still itself has not heard the broker for want of listening. A broker answers an
# offset commit after 5 s at most (its offsets.commit.timeout.ms), and everything else sooner, but for these:
_LOOKS, LOOK_EVERY_S = 6, 1.0
# A broker that is slow and not gone has twice the time for an answer that it owes again, up to aiokafka's own timeout. A
# connection that never answered has no more: after an outage nobody is to wait for one of those.
_MOST_LOOKS, _FORGOTTEN_S = 40, 120.0
# JoinGroup and SyncGroup wait for the other members, CreateTopics, DeleteTopics and CreatePartitions for the cluster.
_PATIENT = frozenset({11, 14, 19, 20, 37})
# For these the kernel looks after the other side: a host that is gone is noticed after 11 s.
_KEEPALIVE = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3}
_TIOCOUTQ = 0x5411 if sys.platform == "linux" else None  # bytes of a socket that the other side has not acknowledged


def watched(connect: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Awaitable[Any]]:
    """AIOKafkaConnection.connect whose connection is looked at for as long as it lives.

    Raises TimeoutError when it is not made for so long.
    """

    @wraps(connect)
    async def call(connection: Any) -> Any:
        async with asyncio.timeout(None) as limit:
            watch = Watch(connection, limit)
            watch.begin()
            try:
                made = await connect(connection)
            except BaseException:
                watch.end()
                raise
            watch.made = True
            _keep_alive(connection)
            return made

    return call


@dataclass(frozen=True, slots=True)
class Due:
    """What a connection waits for, and how far it has got."""

    kind: tuple[str, int, int]  # host, port, and which request
    answer: object  # the oldest one
    received_bytes: int  # of it
    unsent_bytes: int  # or sent and not acknowledged

    def has_moved(self, before: Due) -> bool:
        """More bytes to send are no movement: somebody still believes in the connection."""
        if self.answer is not before.answer or self.received_bytes != before.received_bytes:
            return True
        return self.unsent_bytes < before.unsent_bytes


class Watch:
    """Looks at one connection now and then. Holds it weakly: a forgotten connection ends as it would without."""

    def __init__(self, connection: Any, limit: asyncio.Timeout) -> None:
        self._connection, self._limit = weakref.ref(connection), limit
        self.made = False  # and logged in
        self._before: Due | None = None
        self._silent = 0
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """The connection is about to be made."""
        self._timer = asyncio.get_running_loop().call_later(LOOK_EVERY_S, self._tick)

    def end(self) -> None:
        """It was not made."""
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self) -> None:
        connection = self._connection()
        if connection is not None and self.look(connection):
            self.begin()

    def look(self, connection: Any) -> bool:
        """False when there is nothing to look at any more."""
        is_open = connection._reader is not None
        if self.made and not is_open:
            return False
        self._count(_due_on(connection) if is_open else _ANY)
        if self._before is None or self._silent < (_patience(self._before.kind) if self.made else _LOOKS):
            return True
        if self.made:
            _owed[self._before.kind] = 2 * _patience(self._before.kind), time.monotonic()
        log.warning("broker.silent", extra={"host": connection.host, "port": connection.port})
        if is_open:
            connection.close(reason=CloseReason.CONNECTION_TIMEOUT, exc=TimeoutError("the broker is silent"))
        else:
            self._limit.reschedule(asyncio.get_running_loop().time())
        return False

    def _count(self, due: Due | None) -> None:
        if self._before is not None and (due is None or due.answer is not self._before.answer):
            _owed.pop(self._before.kind, None)  # it was answered
        still = due is not None and self._before is not None and not due.has_moved(self._before)
        self._silent, self._before = self._silent + 1 if still else 0, due


_ANY = Due(("", 0, 0), "a connection", 0, 0)
_owed: dict[tuple[str, int, int], tuple[int, float]] = {}  # looks that the next answer of a kind has, and since when


def _patience(kind: tuple[str, int, int]) -> int:
    looks, since = _owed.get(kind, (_LOOKS, 0.0))
    return min(looks, _MOST_LOOKS) if time.monotonic() - since < _FORGOTTEN_S else _LOOKS


def _due_on(connection: Any) -> Due | None:
    """None when no answer is due, or one that takes the broker its time."""
    requests = connection._requests
    if not requests or any(r is not None and r.API_KEY in _PATIENT for _, r, _ in requests):
        return None
    transport = connection._writer.transport
    unsent = transport.get_write_buffer_size() + _unacknowledged(transport)
    _, request, answer = requests[0]
    kind = (connection.host, connection.port, -1 if request is None else request.API_KEY)
    return Due(kind, answer, len(connection._reader._buffer), unsent)


def _unacknowledged(transport: asyncio.WriteTransport) -> int:
    """Bytes that the kernel still keeps for the other side; 0 where it does not tell."""
    if _TIOCOUTQ is None:
        return 0
    try:
        answer = fcntl.ioctl(transport.get_extra_info("socket").fileno(), _TIOCOUTQ, bytes(4))
    except (OSError, ValueError):  # it is closed
        return 0
    return int(struct.unpack("i", answer)[0])


def _keep_alive(connection: Any) -> None:
    with contextlib.suppress(OSError, AttributeError):  # it is closed already
        own: socket.socket = connection._writer.get_extra_info("socket")
        own.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if hasattr(socket, name):  # macOS calls the first one otherwise
                own.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
