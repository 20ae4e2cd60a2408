"""A load of keep-alive connections that costs little itself: prepared requests on bare asyncio protocols."""

from __future__ import annotations

import asyncio
import hmac
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Outcome:
    """Answers in the measured time."""

    answers: int = 0
    other: int = 0  # not 200
    latencies_s: list[float] = field(default_factory=list)


def prepared(bodies: Sequence[bytes], key: bytes) -> list[bytes]:
    """Signed requests as bytes on the wire."""
    return [
        b"POST /webhook HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nUser-Agent: WAHA/2026.4.1\r\n"
        b"X-Webhook-Hmac-Algorithm: sha512\r\nX-Webhook-Hmac: %s\r\nContent-Length: %d\r\n\r\n%s"
        % (hmac.digest(key, body, "sha512").hex().encode(), len(body), body)
        for body in bodies
    ]


class _Connection(asyncio.Protocol):
    """One request after the other: the next is sent when the answer is in."""

    def __init__(self, requests: Iterator[bytes], outcome: Outcome, until: float) -> None:
        self._requests, self._outcome, self._until = requests, outcome, until
        self._sent_at = 0.0
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        if not data.startswith(b"HTTP/1.1"):
            return  # the body of a refusal; a 200 comes in one piece and nothing is pipelined
        now = time.perf_counter()
        if data.startswith(b"HTTP/1.1 200"):
            self._outcome.answers += 1
        else:
            self._outcome.other += 1
        self._outcome.latencies_s.append(now - self._sent_at)
        if now < self._until:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)

    def _send(self) -> None:
        self._sent_at = time.perf_counter()
        self._transport.write(next(self._requests))


async def load(port: int, requests: Sequence[bytes], *, connections: int, seconds: float) -> tuple[float, Outcome]:
    """Answers a second over `connections` for `seconds`."""
    outcome, endless = Outcome(), itertools.cycle(requests)
    loop, started = asyncio.get_running_loop(), time.perf_counter()
    until = started + seconds
    made = [
        await loop.create_connection(lambda: _Connection(endless, outcome, until), "127.0.0.1", port)
        for _ in range(connections)
    ]
    await asyncio.gather(*(protocol.closed for _, protocol in made))
    return outcome.answers / (time.perf_counter() - started), outcome
