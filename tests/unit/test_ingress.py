"""The webhook receiver behind its signatures: what is answered, what is published, what is counted and logged."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable

import httpx
import orjson
import pytest
from starlette.types import ASGIApp, Message

from pipeline.errors import PoisonError, TransientError
from schemas.topics import ROUTES
from tests.unit.ingress_client import (
    ANA,
    BERLIN,
    BODY,
    EVENT,
    KEY,
    SOURCES,
    TOKEN,
    Remembering,
    app,
    counted,
    deliver,
    post,
    signature,
    signed,
)


# ---------------------------------------------------------------- requests that are no deliveries
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_other_methods(method: str) -> None:
    publisher = Remembering()
    answer = await post(app(publisher), BODY, signed(BODY), method=method)
    assert (answer.status_code, answer.headers["allow"], publisher.records) == (405, "POST", [])


@pytest.mark.parametrize(
    ("value", "status"),
    [
        ("application/json", 200), ("application/json; charset=utf-8", 200), ("Application/JSON", 200),
        ("application/json;charset=utf-8", 200), ("text/plain", 415), ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415), ("application/jsonp", 415), ("application/json-patch+json", 415),
        ("", 415),
    ],
)  # fmt: skip
async def test_content_types(value: str, status: int) -> None:
    publisher = Remembering()
    answer = await post(app(publisher), BODY, signed(BODY) | {"Content-Type": value})
    assert answer.status_code == status
    assert len(publisher.records) == (status == 200)


async def test_a_missing_content_type_is_taken_for_json() -> None:
    assert (await post(app(Remembering()), BODY, {"X-Webhook-Hmac": signature(BODY)})).status_code == 200


@pytest.mark.parametrize("path", ["/", "/api/messages", "/favicon.ico"])
async def test_other_paths_are_not_the_webhooks(path: str) -> None:
    publisher = Remembering()
    assert (await post(app(publisher), BODY, signed(BODY), path)).status_code == 404
    assert publisher.records == []


# ---------------------------------------------------------------- sizes
SMALL = {"WAPIPE_INGRESS_MAX_BODY_BYTES": "2048"}


def body_of(size: int) -> bytes:
    """A readable event of exactly so many bytes."""
    return BODY[:-1] + b" " * (size - len(BODY)) + b"}"


async def pieces(body: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


async def test_the_largest_body() -> None:
    publisher, body = Remembering(), body_of(2048)
    assert (await post(app(publisher, **SMALL), body)).status_code == 200
    assert publisher.records[0].value == body


async def test_one_byte_more() -> None:
    publisher, body = Remembering(), body_of(2049)
    answer = await post(app(publisher, **SMALL), body)
    assert (answer.status_code, answer.text, publisher.records) == (413, "too_large", [])


async def test_too_large_is_said_before_the_body_is_read() -> None:
    status, reason = await deliver(app(Remembering(), **SMALL), headers=signed(BODY) | {"Content-Length": "2049"})
    assert (status, reason) == (413, b"too_large")


@pytest.mark.parametrize("size", [2048, 2049])
@pytest.mark.parametrize("piece", [1, 500, 2047, 5000])
async def test_a_chunked_body_is_counted_as_it_comes(size: int, piece: int) -> None:
    publisher, body = Remembering(), body_of(size)
    answer = await post(app(publisher, **SMALL), pieces(body, piece), signed(body))
    assert answer.status_code == (200 if size == 2048 else 413)
    assert [r.value for r in publisher.records] == ([body] if size == 2048 else [])


async def test_a_chunked_body_in_one_piece() -> None:
    publisher, body = Remembering(), body_of(2049)
    answer = await deliver(app(publisher, **SMALL), {"type": "http.request", "body": body}, headers=signed(body))
    assert (answer, publisher.records) == ((413, b"too_large"), [])


@pytest.mark.parametrize("before", [[], [{"type": "http.request", "body": BODY[:5], "more_body": True}]])
async def test_a_client_that_goes_away(before: list[Message]) -> None:
    publisher = Remembering()
    status, reason = await deliver(app(publisher), *before, {"type": "http.disconnect"}, headers=signed(BODY))
    assert (status, reason, publisher.records) == (400, b"disconnected", [])


# ---------------------------------------------------------------- what is published
async def test_the_record_of_an_event() -> None:
    publisher, before = Remembering(), time.time_ns() // 1_000_000
    answer = await post(app(publisher, WAPIPE_INGRESS_DEADLINE_S="1.5"))
    after = time.time_ns() // 1_000_000
    [record] = publisher.records
    *headers, (last, received_at_ms) = record.headers
    assert (answer.status_code, record.topic, record.key) == (200, "waha.message", f"default|{ANA}".encode())
    assert record.value == BODY
    assert headers == [
        ("event", b"message"), ("event-id", b"evt_1"), ("session", b"default"), ("engine", b"NOWEB"),
        ("source", b"default"),
    ]  # fmt: skip
    assert last == "received-at-ms"
    assert before <= int(received_at_ms) <= after
    assert record.deadline_s == 1.5


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b' {\n"event" : "message", "session":"s"\t}\n', id="spaces"),
        pytest.param(b'{"session":"s","event":"a","event":"message"}', id="a name twice"),
        pytest.param(rb'{"event":"message","session":"s","x":"\u0000\ud83d"}', id="NUL and a lone surrogate"),
        pytest.param('{"event":"message","session":"s","x":"👩‍💻\u2028"}'.encode(), id="UTF-8"),
        pytest.param(b'{"event":"message","session":"s","x":NaN,"y":1e999,"z":0.10}', id="numbers"),
        pytest.param(b'{"event":"message","session":"s","payload":null}', id="no payload"),
        pytest.param(b'{"event":"message","session":"s","payload":{"id":5,"_data":"x"}}', id="wrong types"),
        pytest.param(b'{"event":"message","session":"s","x":"' + b"y" * 10_000_000 + b'"}', id="10 MB of text"),
    ],
)
async def test_the_value_is_the_body_that_was_signed(body: bytes) -> None:
    """Byte for byte: replay and audit start from it."""
    publisher = Remembering()
    assert (await post(app(publisher), body)).status_code == 200
    assert publisher.records[0].value == body
    assert publisher.records[0].topic == "waha.message"


async def test_an_event_of_next_years_waha_is_kept() -> None:
    publisher = Remembering()
    body = orjson.dumps(EVENT | {"event": "message.pinned"})
    assert (await post(app(publisher), body)).status_code == 200
    assert (publisher.records[0].topic, dict(publisher.records[0].headers)["event"]) == (
        "waha.other",
        b"message.pinned",
    )


async def test_the_key_is_never_empty_and_never_the_event() -> None:
    publisher = Remembering()
    to = app(publisher)
    for event in ROUTES:
        await post(to, orjson.dumps({"event": event, "session": "s"}))
    assert {r.key for r in publisher.records} == {b"s|"}


@pytest.mark.parametrize(
    ("event", "session", "header", "session_header"),
    [
        ("mensagem.é", "sessão", rb"mensagem.\xe9", rb"sess\xe3o"),
        ("событие", "会話", b"".join(rb"\u%04x" % ord(c) for c in "событие"), rb"\u4f1a\u8a71"),
        ("a\r\nb", "s\tx", b"a\r\nb", b"s\tx"),
        ("x" * 5000, "y" * 5000, b"x" * 200, b"y" * 200),
    ],
    ids=["latin", "beyond", "line feeds", "long"],
)
async def test_odd_names_do_not_break_the_record(
    event: str, session: str, header: bytes, session_header: bytes
) -> None:
    publisher = Remembering()
    body = orjson.dumps({"event": event, "session": session, "id": event, "engine": session})
    assert (await post(app(publisher), body)).status_code == 200
    [record] = publisher.records
    found = dict(record.headers)
    assert (found["event"], found["session"]) == (header, session_header)
    assert all(value.isascii() and len(value) <= 2000 for value in found.values())
    assert record.key == f"{session}|".encode()[:512]
    assert record.topic == "waha.other"


# ---------------------------------------------------------------- parked
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param(b"", b"not_json", id="empty"),
        pytest.param(b"hello", b"not_json", id="no JSON"),
        pytest.param(b"\xff\xfe\x00", b"not_json", id="no UTF-8"),
        pytest.param(b"[" * 100_000, b"not_json", id="100,000 levels"),
        pytest.param(b"[]", b"not_an_object", id="an array"),
        pytest.param(b'{"session":"s"}', b"no_event", id="no event"),
        pytest.param(b'{"event":"message"}', b"no_session", id="no session"),
    ],
)
async def test_signed_but_unreadable_is_parked(body: bytes, reason: bytes) -> None:
    """Any answer but 2xx would have WAHA repeat it fifteen times and forget it."""
    publisher, before = Remembering(), counted("wapipe_ingress_answers_total", code="200", reason="parked")
    answer = await post(app(publisher), body)
    assert (answer.status_code, answer.text) == (200, "parked")
    [record] = publisher.records
    assert (record.topic, record.key, record.value) == ("waha.parked", b"default", body)
    assert record.headers[:2] == [("reason", reason), ("source", b"default")]
    assert record.headers[2][0] == "received-at-ms"
    assert counted("wapipe_ingress_answers_total", code="200", reason="parked") == before + 1


async def test_parking_needs_the_broker_too() -> None:
    assert (await post(app(Remembering(error=TransientError("kafka", "away"))), b"hello")).status_code == 503


# ---------------------------------------------------------------- the broker
async def test_a_full_spool_is_503_and_says_so() -> None:
    answer = await post(app(Remembering(error=TransientError("spool", "it is full"))))
    assert (answer.status_code, answer.text, answer.headers["retry-after"]) == (503, "spool_full", "2")


async def test_an_absent_broker_is_503_with_the_time_to_come_back() -> None:
    publisher = Remembering(error=TransientError("kafka", "away"), ready=False)
    answer = await post(app(publisher))
    assert (answer.status_code, answer.text, answer.headers["retry-after"]) == (503, "broker_away", "2")


async def test_the_next_one_is_taken_when_the_broker_is_back() -> None:
    publisher = Remembering(error=TransientError("kafka", "away"))
    to = app(publisher)
    assert (await post(to)).status_code == 503
    publisher.error = None
    assert (await post(to)).status_code == 200


async def test_what_the_broker_never_takes_is_413() -> None:
    answer = await post(app(Remembering(error=PoisonError("too_large_for_broker", "hush"))))
    assert (answer.status_code, answer.text) == (413, "too_large_for_broker")


@pytest.mark.parametrize("ready", [True, False])
async def test_readiness_is_the_brokers(ready: bool) -> None:
    to = app(Remembering(ready=ready))
    health = await post(to, b"", {}, "/health", "GET")
    answer = await post(to, b"", {}, "/ready", "GET")
    assert health.json() == {"status": "ok", "process": "ingress"}
    assert answer.status_code == (200 if ready else 503)
    assert answer.json().get("reason") == (None if ready else "broker_away")


# ---------------------------------------------------------------- limits
async def held(publisher: Remembering, to: ASGIApp, body: bytes, count: int) -> list[asyncio.Task[httpx.Response]]:
    """So many requests that wait for the broker."""
    tasks = [asyncio.create_task(post(to, body)) for _ in range(count)]
    for _ in range(count):
        await publisher.arrivals.get()
    return tasks


async def test_more_requests_than_allowed_are_503() -> None:
    publisher = Remembering(gate=asyncio.Event())
    to = app(publisher, WAPIPE_INGRESS_MAX_IN_FLIGHT="3")
    tasks = await held(publisher, to, BODY, 3)
    answer = await post(to)
    assert (answer.status_code, answer.text, answer.headers["retry-after"]) == (503, "too_many_in_flight", "2")
    assert publisher.gate is not None
    publisher.gate.set()
    assert [t.status_code for t in await asyncio.gather(*tasks)] == [200] * 3
    assert (await post(to)).status_code == 200


async def test_more_bytes_than_allowed_are_503() -> None:
    publisher, body = Remembering(gate=asyncio.Event()), body_of(1500)
    to = app(publisher, **SMALL, WAPIPE_INGRESS_MAX_IN_FLIGHT_BYTES="4096")
    tasks = await held(publisher, to, body, 2)
    answer = await post(to, body)
    assert (answer.status_code, answer.text) == (503, "too_many_bytes_in_flight")
    chunked = await post(to, pieces(BODY, 10), signed(BODY))
    assert (chunked.status_code, chunked.text) == (503, "too_many_bytes_in_flight")  # it might become 2,048
    small = asyncio.create_task(post(to, BODY))
    assert publisher.gate is not None
    publisher.gate.set()
    assert [t.status_code for t in await asyncio.gather(*tasks, small)] == [200] * 3
    assert (await post(to, body)).status_code == 200


async def test_refused_requests_hold_nothing() -> None:
    """Limits of one request and of one body: any that were not given back would show at once."""
    publisher = Remembering()
    to = app(publisher, **SMALL, WAPIPE_INGRESS_MAX_IN_FLIGHT="1", WAPIPE_INGRESS_MAX_IN_FLIGHT_BYTES="2048")
    refused = [
        await post(to, BODY, {}),
        await post(to, body_of(2049)),
        await post(to, pieces(body_of(3000), 100), signed(b"")),
        await post(to, BODY, signed(BODY) | {"Content-Type": "text/plain"}),
        await post(to, BODY, path="/webhook/paris"),
        await post(to, method="GET"),
    ]  # fmt: skip
    publisher.error = TransientError("kafka", "away")
    refused.append(await post(to))
    publisher.error = PoisonError("too_large_for_broker")
    refused.append(await post(to))
    await deliver(to, {"type": "http.disconnect"}, headers=signed(BODY))
    assert [r.status_code for r in refused] == [401, 413, 413, 415, 404, 405, 503, 413]
    publisher.error = None
    assert (await post(to, body_of(2048))).status_code == 200


# ---------------------------------------------------------------- what is counted and what is logged
async def test_labels_are_of_closed_sets() -> None:
    """Names come from outside: one that is not known is counted as other."""
    names = [("message", "NOWEB"), ("message", "HAL9000"), ("message.pinned", "GOWS"), ("+4915112345678", ANA)]
    labels = [("message", "NOWEB"), ("message", "other"), ("other", "GOWS"), ("other", "other")]
    before = [counted("wapipe_ingress_events_total", event=e, engine=g) for e, g in labels]
    for event, engine in names:
        await post(app(Remembering()), orjson.dumps(EVENT | {"event": event, "engine": engine}))
    assert [counted("wapipe_ingress_events_total", event=e, engine=g) for e, g in labels] == [n + 1 for n in before]
    assert counted("wapipe_ingress_events_total", event="+4915112345678", engine=ANA) == 0


async def test_bytes_and_answers_are_counted_once_the_broker_has_them() -> None:
    def now() -> tuple[float, float]:
        return counted("wapipe_ingress_bytes_total"), counted("wapipe_ingress_answers_total", code="200", reason="ok")

    size, answers = now()
    await post(app(Remembering()))
    await post(app(Remembering(error=TransientError("kafka", "away"))))
    await post(app(Remembering()), BODY, {})
    assert now() == (size + len(BODY), answers + 1)


@pytest.mark.parametrize(
    ("stamp", "late"),
    [
        pytest.param(lambda ms: str(ms - 61_000), 1, id="a minute ago"),
        pytest.param(lambda ms: "0", 1, id="1970"),
        pytest.param(str, 0, id="now"),
        pytest.param(lambda ms: str(ms + 3_600_000), 0, id="a clock that is ahead"),
        pytest.param(lambda ms: "yesterday", 0, id="words"),
        pytest.param(lambda ms: "-5", 0, id="negative"),
        pytest.param(lambda ms: "9" * 5000, 0, id="5,000 digits"),
    ],
)
async def test_old_deliveries_are_counted_and_never_refused(stamp: Callable[[int], str], late: int) -> None:
    """WAHA repeats the header unchanged on every retry, and nothing signs it."""
    before = counted("wapipe_ingress_late_total")
    headers = signed(BODY, **{"X-Webhook-Timestamp": stamp(time.time_ns() // 1_000_000)})
    assert (await post(app(Remembering()), BODY, headers)).status_code == 200
    assert counted("wapipe_ingress_late_total") == before + late


async def test_logs_hold_no_bodies_numbers_or_secrets(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    to = app(Remembering(), **SOURCES)
    unreadable = f"hush-body {ANA}".encode()
    await post(to)
    await post(to, unreadable)
    await post(to, BODY, signed(BODY, "hush-key"))
    await post(to, BODY, {"X-Webhook-Token": "hush-token"})
    await post(to, BODY, {"X-Webhook-Token": TOKEN})
    await post(app(Remembering(error=PoisonError("too_large_for_broker", "hush"))))
    said = " ".join(f"{r.getMessage()} {vars(r)}" for r in caplog.records if not r.name.startswith("http"))
    assert "event.parked" in said
    for secret in ("hush", ANA[:10], KEY, TOKEN, BERLIN, signature(BODY)[:20], signature(unreadable)[:20]):
        assert secret not in said
