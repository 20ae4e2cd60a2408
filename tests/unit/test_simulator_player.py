"""The player against a real HTTP server on a loopback port: signatures, WAHA's retries, counts, stopping."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from producers.simulator import Delivery, Profile, Report, Retry, Target, play, recorded, traffic
from producers.simulator.envelopes import sign

KEY = "a-key"
Answer = Callable[[Request, int], Awaitable[Response]]


@dataclass
class Hook:
    """A webhook that remembers what it got and answers by `answer(request, how many requests before)`."""

    answer: Answer
    url: str = ""
    got: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    async def __call__(self, request: Request) -> Response:
        body = await request.body()
        self.got.append((request.method, dict(request.headers), body))
        return await self.answer(request, len(self.got) - 1)


def statuses(*codes: int, headers: dict[str, str] | None = None) -> Answer:
    """Answers with each code in turn, then 200."""

    async def answer(_request: Request, n: int) -> Response:
        return Response(status_code=codes[n], headers=headers) if n < len(codes) else Response()

    return answer


def always(code: int) -> Answer:
    async def answer(_request: Request, _n: int) -> Response:
        return Response(status_code=code)

    return answer


class _Server(uvicorn.Server):
    """Tells when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[Hook]:
    hook = Hook(answer)

    async def endpoint(request: Request) -> Response:
        return await hook(request)

    app = Starlette(routes=[Route("/webhook", endpoint, methods=["GET", "POST"])])
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        hook.url = f"http://127.0.0.1:{listener.getsockname()[1]}/webhook"
        config = uvicorn.Config(app, log_config=None, lifespan="off", ws="none", timeout_graceful_shutdown=1)
        server = _Server(config)
        task = asyncio.create_task(server.serve([listener]))
        await server.ready.wait()
        try:
            yield hook
        finally:
            server.should_exit = True
            await task


@dataclass
class Waits:
    """Stands for asyncio.sleep: notes the waits and takes none."""

    seconds: list[float] = field(default_factory=list)

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def some(count: int = 1) -> list[Delivery]:
    return list(traffic(Profile(count=count, seed=4)))


async def test_signed_delivered_and_counted() -> None:
    deliveries = some(200)
    async with serving(always(200)) as hook:
        report = await play(deliveries, Target(hook.url, KEY), concurrency=16)
    assert (report.sent, report.delivered, report.lost, report.unfinished) == (200, 200, 0, 0)
    assert (report.attempts, report.retried, dict(report.answers)) == (200, 0, {200: 200})
    assert report.events.total() == 200
    assert report.events["message.any"] == sum(d.event == "message.any" for d in deliveries)
    assert report.latencies.count == 200
    assert report.elapsed_s > 0
    assert sorted(body for _, _, body in hook.got) == sorted(d.body for d in deliveries)
    for method, headers, body in hook.got:
        assert method == "POST"
        assert headers["x-webhook-hmac"] == sign(body, KEY)
        assert headers["x-webhook-hmac-algorithm"] == "sha512"
        assert headers["content-type"] == "application/json"
        assert headers["user-agent"].startswith("WAHA/")
        assert "x-webhook-token" not in headers


async def test_token_instead_of_a_signature() -> None:
    async with serving(always(200)) as hook:
        await play(some(), Target(hook.url, None, token="a-token"))
    headers = hook.got[0][1]
    assert headers["x-webhook-token"] == "a-token"
    assert "x-webhook-hmac" not in headers


async def test_recorded_deliveries_keep_their_headers() -> None:
    made = list(recorded())
    async with serving(always(200)) as hook:
        report = await play(made, Target(hook.url, KEY), concurrency=1)
    assert report.delivered == len(made) == 35
    for delivery, (_, headers, body) in zip(made, hook.got, strict=True):
        assert body == delivery.body
        for name, value in delivery.headers.items():
            if name not in ("Host", "Connection"):
                assert headers[name.lower()] == value


async def test_a_failure_is_tried_again_with_the_same_bytes_and_headers() -> None:
    waits = Waits()
    async with serving(statuses(500, 404)) as hook:
        report = await play(some(), Target(hook.url, KEY), sleep=waits)
    assert hook.got[0] == hook.got[1] == hook.got[2]
    assert waits.seconds == [2.0, 2.0]
    assert (report.delivered, report.attempts, report.retried) == (1, 3, 2)
    assert dict(report.answers) == {500: 1, 404: 1, 200: 1}


@pytest.mark.parametrize("code", [304, 400, 401, 410, 413, 429, 500, 503])
async def test_everything_but_2xx_is_tried_sixteen_times_and_then_lost(code: int) -> None:
    waits = Waits()
    async with serving(always(code)) as hook:
        report = await play(some(), Target(hook.url, KEY), sleep=waits)
    assert len(hook.got) == 16
    assert waits.seconds == [2.0] * 15
    assert (report.sent, report.lost, report.delivered, report.retried) == (1, 1, 0, 15)


async def test_retry_after_is_obeyed() -> None:
    waits = Waits()
    async with serving(statuses(503, 503, headers={"Retry-After": "7"})) as hook:
        await play(some(), Target(hook.url, KEY), sleep=waits)
    assert waits.seconds == [7.0, 7.0]


async def test_retry_after_that_is_shorter_changes_nothing() -> None:
    waits = Waits()
    async with serving(statuses(503, headers={"Retry-After": "1"})) as hook:
        await play(some(), Target(hook.url, KEY), sleep=waits)
    assert waits.seconds == [2.0]


async def test_linear_policy() -> None:
    waits = Waits()
    async with serving(statuses(500, 500, 500)) as hook:
        await play(some(), Target(hook.url, KEY), sleep=waits, retry=Retry("linear", 0.5))
    assert waits.seconds == [0.5, 1.0, 1.5]


async def test_redirects_are_followed_and_lose_the_body() -> None:
    async def answer(request: Request, n: int) -> Response:
        return RedirectResponse(str(request.url), 302) if n == 0 else Response()

    async with serving(answer) as hook:
        report = await play(some(), Target(hook.url, KEY))
    assert [(method, bool(body)) for method, _, body in hook.got] == [("POST", True), ("GET", False)]
    assert report.delivered == 1


async def test_a_dropped_connection_is_tried_again() -> None:
    seen = 0

    async def drop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        seen += 1
        if seen == 3:
            writer.write(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(drop, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/webhook"
    waits = Waits()
    async with server:
        report = await play(some(), Target(url, KEY), sleep=waits)
    assert (report.delivered, report.attempts, report.errors.total()) == (1, 3, 2)
    assert dict(report.answers) == {204: 1}
    assert waits.seconds == [2.0, 2.0]
    assert report.latencies.count == 1


async def test_nobody_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/webhook"
        report = await play(some(3), Target(url, KEY), sleep=Waits(), retry=Retry(attempts=2))
    assert (report.sent, report.lost, report.attempts) == (3, 3, 9)
    assert dict(report.errors) == {"ClientConnectorError": 9}


async def test_timeout_of_a_request() -> None:
    async def never(_request: Request, _n: int) -> Response:
        await asyncio.Event().wait()
        raise AssertionError

    async with serving(never) as hook:
        retry = Retry(attempts=1, delay_s=0)
        report = await play(some(), Target(hook.url, KEY), timeout_s=0.05, retry=retry)
    assert (report.lost, report.attempts, report.errors.total()) == (1, 2, 2)


async def test_concurrency_is_reached_and_never_exceeded() -> None:
    inside, most, full = 0, 0, asyncio.Event()

    async def answer(_request: Request, _n: int) -> Response:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        if inside == 8:
            full.set()
        await full.wait()
        inside -= 1
        return Response()

    async with serving(answer) as hook:
        report = await play(some(100), Target(hook.url, KEY), concurrency=8)
    assert (most, report.delivered) == (8, 100)


async def test_pacing_is_open_loop() -> None:
    """Slow answers do not slow the sending down: all are begun while none is answered."""
    go = asyncio.Event()

    async def answer(_request: Request, n: int) -> Response:
        if n == 39:
            go.set()
        await go.wait()
        return Response()

    async with serving(answer) as hook:
        report = await play(some(40), Target(hook.url, KEY), rate_per_s=400, concurrency=64)
    assert report.delivered == 40
    assert report.elapsed_s >= 39 / 400


async def test_on_answer_sees_every_attempt() -> None:
    seen: list[tuple[int | None, int]] = []

    def on_answer(_delivery: Delivery, status: int | None, latency_s: float, attempt: int) -> None:
        assert latency_s > 0
        seen.append((status, attempt))

    async with serving(statuses(503)) as hook:
        await play(some(), Target(hook.url, KEY), sleep=Waits(), on_answer=on_answer)
    assert seen == [(503, 1), (200, 2)]


async def test_an_error_of_the_callback_ends_the_play() -> None:
    def on_answer(*_: object) -> None:
        raise RuntimeError("broken")

    async with serving(always(200)) as hook:
        with pytest.raises(ExceptionGroup) as caught:
            await play(some(5), Target(hook.url, KEY), on_answer=on_answer)
    assert caught.group_contains(RuntimeError, match="broken")


async def test_stop_drops_what_waits_and_reports() -> None:
    stop, report = asyncio.Event(), Report()

    async def forever(_seconds: float) -> None:
        stop.set()
        await asyncio.Event().wait()

    async with serving(statuses(200, 200, 500)) as hook:
        endless = traffic(Profile(seed=4))
        made = await play(endless, Target(hook.url, KEY), concurrency=1, sleep=forever, stop=stop, report=report)
    assert made is report
    assert report.unfinished >= 1
    assert report.sent == report.delivered + report.unfinished
    assert report.lost == 0


async def test_stop_before_the_start_sends_nothing_for_long() -> None:
    stop = asyncio.Event()
    stop.set()
    async with serving(always(200)) as hook:
        report = await play(traffic(Profile()), Target(hook.url, KEY), stop=stop)
    assert report.sent == report.delivered + report.unfinished


@pytest.mark.parametrize("url", ["", "localhost:4011", "ftp://host/x", "http:///webhook"])
def test_a_target_must_be_an_http_url(url: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        Target(url, KEY)


def test_report_as_json() -> None:
    report = Report(sent=2, delivered=1, lost=1, elapsed_s=4.0)
    report.answers[503] = 16
    report.answers[200] = 1
    data = report.to_dict()
    assert data["answers"] == {"200": 1, "503": 16}
    assert data["rate_per_s"] == 0.5
    assert set(data["latency_ms"]) == {"p50", "p95", "p99", "max"}
