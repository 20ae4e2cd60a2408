"""A connection to the broker on which nothing moves is given up; one that is slow, or waits for other members, is not."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.fetch import FetchRequest_v4
from aiokafka.protocol.group import JoinGroupRequest_v2, SyncGroupRequest_v1
from aiokafka.protocol.metadata import MetadataRequest

import pipeline.broker
from pipeline import silence
from pipeline.silence import Due, Watch, watched

_MANY = 50  # looks: far more than it takes
_ANSWER = object()


@pytest.fixture(autouse=True)
def unowed() -> None:
    silence._owed.clear()


class _Socket:
    """A transport, its socket and its writer in one."""

    def __init__(self) -> None:
        self.transport, self.unsent = self, 0

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def get_extra_info(self, _: str) -> _Socket:
        return self

    def fileno(self) -> int:
        return -1

    def setsockopt(self, *_: Any) -> None:
        pass


class _Connection(SimpleNamespace):
    """One with a request of this type under way; as much of aiokafka's as a watch looks at."""

    def __init__(self, request: Any) -> None:
        super().__init__(
            host="broker", port=9092, _reader=SimpleNamespace(_buffer=b""), _writer=_Socket(), closed=False
        )
        self._requests = deque([(1, request, object())])

    def close(self, **_: Any) -> None:
        self.closed = True


async def _looks(connection: _Connection, between: Any = lambda _: None) -> int:
    """How many looks it takes until there is nothing to look at any more, at most `_MANY`."""
    watch = Watch(connection, asyncio.timeout(None))
    watch.made = True
    for number in range(_MANY):
        if not watch.look(connection):
            return number
        between(connection)
    return _MANY


async def test_silence_while_an_answer_is_due_is_the_end() -> None:
    connection = _Connection(FetchRequest_v4)
    assert 0 < await _looks(connection) < _MANY
    assert connection.closed


async def test_more_requests_are_no_sign_of_life() -> None:
    def ask_more(connection: _Connection) -> None:
        connection._requests.append((2, MetadataRequest, object()))
        connection._writer.unsent += 100

    assert await _looks(_Connection(FetchRequest_v4), ask_more) < _MANY


@pytest.mark.parametrize("request_", [JoinGroupRequest_v2, SyncGroupRequest_v1])
async def test_a_rebalance_may_take_its_time(request_: Any) -> None:
    connection = _Connection(request_)
    connection._requests.append((2, MetadataRequest, object()))  # it is answered after the other
    assert await _looks(connection) == _MANY
    assert not connection.closed


async def test_nothing_due_is_no_silence() -> None:
    connection = _Connection(FetchRequest_v4)
    connection._requests.clear()
    assert await _looks(connection) == _MANY


def _receive(connection: _Connection) -> None:
    connection._reader._buffer += b"x"


def _send(connection: _Connection) -> None:
    connection._writer.unsent -= 1


def _answer(connection: _Connection) -> None:
    connection._requests = deque([(2, FetchRequest_v4, object())])


@pytest.mark.parametrize("slowly", [_receive, _send, _answer])
async def test_slow_is_not_silent(slowly: Any) -> None:
    connection = _Connection(FetchRequest_v4)
    connection._writer.unsent = _MANY
    assert await _looks(connection, slowly) == _MANY
    assert not connection.closed


async def test_a_closed_connection_is_left_alone() -> None:
    def close(connection: _Connection) -> None:
        connection._reader = None

    connection = _Connection(FetchRequest_v4)
    assert await _looks(connection, close) == 1
    assert not connection.closed


def test_movement() -> None:
    kind = ("broker", 9092, 1)
    before = Due(kind, _ANSWER, 10, 10)
    assert not Due(kind, _ANSWER, 10, 10).has_moved(before)
    assert not Due(kind, _ANSWER, 10, 11).has_moved(before)
    assert Due(kind, _ANSWER, 11, 10).has_moved(before)
    assert Due(kind, _ANSWER, 10, 9).has_moved(before)
    assert Due(kind, object(), 10, 10).has_moved(before)


async def test_a_broker_that_owes_an_answer_again_gets_more_time_until_it_gives_it() -> None:
    first, second, third = [await _looks(_Connection(FetchRequest_v4)) for _ in range(3)]
    assert first < second < third
    assert await _looks(_Connection(MetadataRequest)) == first  # of another kind
    assert await _looks(_Connection(FetchRequest_v4), _answer) == _MANY
    assert await _looks(_Connection(FetchRequest_v4)) == first


async def test_a_connection_that_is_not_made_gets_no_more_time() -> None:
    times = list[int]()
    for _ in range(3):
        watch, connection = Watch(_Connection(FetchRequest_v4), asyncio.timeout(None)), _Connection(FetchRequest_v4)
        times.append(sum(1 for _ in iter(lambda w=watch, c=connection: w.look(c), False)))  # type: ignore[misc]
    assert times[0] == times[1] == times[2] < _MANY


# ---------------------------------------------------------------- real connections
@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silence, "LOOK_EVERY_S", 0.01)


async def test_a_connection_that_is_never_made(impatient: None) -> None:
    class Nowhere(_Connection):
        async def connect(self) -> None:
            self._reader = None
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await watched(Nowhere.connect)(Nowhere(FetchRequest_v4))


@asynccontextmanager
async def _accepting_only() -> AsyncIterator[int]:
    """The port of a server that accepts, does not read, and never answers."""
    held: list[asyncio.StreamWriter] = []

    async def hold(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        held.append(writer)

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        for writer in held:
            writer.transport.abort()
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0)


async def test_one_that_is_closed_before_the_first_look_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Brief(_Connection):
        async def connect(self) -> None:
            pass

    class Kept(Watch):
        def begin(self) -> None:
            kept.append(self)

    kept, brief = list[Watch](), Brief(FetchRequest_v4)
    monkeypatch.setattr(silence, "Watch", Kept)
    await watched(Brief.connect)(brief)
    brief._reader = None
    [watch] = kept
    assert not watch.look(brief)


async def _connect_to_nobody() -> None:
    async with _accepting_only() as port:
        connection = AIOKafkaConnection("127.0.0.1", port, request_timeout_ms=3_600_000)
        with pytest.raises(KafkaConnectionError) as caught:
            await connection.connect()
        assert "silent" in str(caught.value.__cause__)
        assert not connection.connected()


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_broker_that_accepts_and_says_nothing(run: Any, impatient: None) -> None:
    assert pipeline.broker  # which puts it into aiokafka
    run(_connect_to_nobody())


async def _fill_a_socket() -> None:
    async with _accepting_only() as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(bytes(50_000_000))
        assert silence._unacknowledged(writer.transport) > 0
        writer.transport.abort()
        await asyncio.sleep(0)


@pytest.mark.skipif(silence._TIOCOUTQ is None, reason="the kernel tells it on Linux only")
@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_what_the_kernel_keeps_is_seen(run: Any) -> None:
    run(_fill_a_socket())
