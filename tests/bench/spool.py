"""Spool: events acknowledged with fsync a second while the broker is away, against bare write + fsync on the same disk."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.broker import Headers
from pipeline.errors import TransientError
from pipeline.local.ports import free_port
from pipeline.settings import load_settings
from pipeline.spool.record import Record, encode
from producers.spool import open_spool
from schemas.topics import MESSAGE
from tests.bench.common import Table, message_traffic, wapipe
from tests.bench.ingress import _up
from tests.bench.load import load, prepared

CALLERS = 64
SECONDS = 4.0
KEY = "benchmark-key-0123456789"


class _Away:
    """A broker that is not there."""

    ready = False

    async def publish(self, topic: str, key: bytes, value: bytes, headers: Headers, *, deadline_s: float) -> None:
        raise TransientError("kafka", "away")


async def run(*, rounds: int) -> Table:
    """The table. No server is needed; the disk is the one of the temporary folder."""
    limit = f"bare write + fsync, {CALLERS} records a time"
    table = Table(f"Spool, {CALLERS} callers, fsync before each answer", "events/s", limit)
    bodies = [d.body for d in message_traffic(2000)]
    table.notes.append(f"Records of {sum(map(len, bodies)) / len(bodies):,.0f} bytes. The broker does not exist.")
    with tempfile.TemporaryDirectory(prefix="wapipe-bench-spool-") as folder:
        root = Path(folder)
        for number in range(rounds):
            bare = await asyncio.to_thread(_bare, root / f"bare-{number}", bodies)
            table.add(limit, bare)
            table.add("publish, in the process", await _callers(root / f"callers-{number}", bodies))
            table.add("ingress, signed webhooks over HTTP", await _ingress(root / f"ingress-{number}", bodies))
    return table


def _records(bodies: Sequence[bytes]) -> Iterator[Record]:
    headers = [("event", b"message.any"), ("session", b"default"), ("received-at-ms", b"1795317142109")]
    return (Record(MESSAGE.name, b"default|5511988887777@c.us", headers, b, 0) for b in itertools.cycle(bodies))


def _bare(path: Path, bodies: Sequence[bytes]) -> float:
    """The same frames, encoded before, in groups of all callers."""
    group = b"".join(encode(r) for r in itertools.islice(_records(bodies), CALLERS))
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    count, started = 0, time.perf_counter()
    try:
        while time.perf_counter() - started < SECONDS:
            os.write(fd, group)
            os.fsync(fd)
            count += CALLERS
        return count / (time.perf_counter() - started)
    finally:
        os.close(fd)
        path.unlink()


async def _callers(root: Path, bodies: Sequence[bytes]) -> float:
    settings = load_settings({"WAPIPE_SPOOL_DIR": str(root), "WAPIPE_SPOOL_MAX_BYTES": str(2**34)})
    records, count = _records(bodies), 0
    async with open_spool(settings, _Away()) as sink:
        started = time.perf_counter()

        async def call() -> None:
            nonlocal count
            while time.perf_counter() - started < SECONDS:
                one = next(records)
                await sink.publish(one.topic, one.key, one.value, one.headers, deadline_s=2)
                count += 1

        await asyncio.gather(*(call() for _ in range(CALLERS)))
        return count / (time.perf_counter() - started)


async def _ingress(root: Path, bodies: Sequence[bytes]) -> float:
    port = free_port()
    environment = {
        "WAPIPE_SPOOL_DIR": str(root), "WAPIPE_SPOOL_MAX_BYTES": str(2**34), "WAPIPE_INGRESS_PORT": str(port),
        "WHATSAPP_HOOK_HMAC_KEY": KEY, "WAPIPE_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}",
    }  # fmt: skip
    requests = prepared(bodies, KEY.encode())
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(wapipe(environment, "run", "ingress"))
        await _up(port, "/health")
        await load(port, requests, connections=CALLERS, seconds=1)
        rate, outcome = await load(port, requests, connections=CALLERS, seconds=SECONDS)
        if outcome.other:
            raise RuntimeError(f"{outcome.other} answers were not 200")
        return rate
