"""The webhook receiver: verify over the raw bytes, file the event under its topic, answer 200 once it is durable.

WAHA repeats every answer that is not 2xx and then forgets, so: a signed body that cannot be read is parked and
answered 200; while the broker is away the spool takes events; without room there, 503 with Retry-After. The hot path
is a bare ASGI function before a plain Starlette application: routing, request and response objects would cost as much
as all the rest.
"""

from __future__ import annotations

import contextlib
import hmac
import logging
import time
from collections.abc import AsyncIterator
from functools import cache

from prometheus_client import Counter
from starlette.applications import Starlette
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline import metrics
from pipeline.broker import Headers, Publisher, require_topics
from pipeline.errors import ConfigError, PoisonError, RejectedError, TransientError
from pipeline.health import health_routes
from pipeline.lifecycle import background, serve_http, stop_event
from pipeline.postgres import close_pool, open_pool
from pipeline.settings import IngressSettings, Settings, require_secret
from producers.beat import keep_beat
from producers.spool import Sink, SpoolingPublisher, open_spool
from schemas.envelope import read_envelope, to_header
from schemas.ids import DEFAULT_SOURCE, qualify_session
from schemas.reading import UnreadableError
from schemas.topics import (
    HEADER_ENGINE,
    HEADER_EVENT,
    HEADER_EVENT_ID,
    HEADER_REASON,
    HEADER_RECEIVED_AT_MS,
    HEADER_SESSION,
    HEADER_SOURCE,
    LIVE_TOPICS,
    PARKED,
    ROUTES,
)

log = logging.getLogger("wapipe.ingress")

_LATE_AFTER_MS = 60_000  # WAHA's default policy has given up after about 30 s: later ones come from longer policies
_RETRY_AFTER_S = b"2"  # WAHA's own default delay
_ENGINES = frozenset({"WEBJS", "WPP", "NOWEB", "GOWS"})
_JSON = b"application/json"


class Verifier:
    """Which signatures and tokens are good for which source. Raises ConfigError when there is none at all."""

    def __init__(self, settings: IngressSettings) -> None:
        self._token = (
            require_secret(settings.token, "WHATSAPP_WEBHOOK_TOKEN", "webhooks are told apart by it").encode()
            if settings.token
            else None
        )
        self._keys: dict[str, hmac.HMAC] = {}  # keyed once: a copy of it costs less than a new one
        if settings.hmac_key:
            key = require_secret(settings.hmac_key, "WHATSAPP_HOOK_HMAC_KEY", "webhooks are verified with it")
            self._keys[DEFAULT_SOURCE] = hmac.new(key.encode(), digestmod="sha512")
        for source, secret in settings.source_keys.items():
            key = require_secret(secret, f"WAPIPE_SOURCE_HMAC_KEYS[{source}]", "webhooks are verified with it")
            self._keys[source] = hmac.new(key.encode(), digestmod="sha512")
        if not self._keys and self._token is None:
            raise ConfigError(
                "neither WHATSAPP_HOOK_HMAC_KEY nor WHATSAPP_WEBHOOK_TOKEN is set: anybody could post events. "
                "Set one, or let `wapipe config init` write a .env"
            )

    def knows(self, source: str) -> bool:
        """True for the default source, and for each that has a key of its own."""
        return source == DEFAULT_SOURCE or source in self._keys

    def check(self, source: str, headers: dict[bytes, bytes], body: bytes) -> None:
        """Raises RejectedError(401) unless the body is signed, or (default source only) the token is right.

        A signature that is there must be right: a token does not heal a wrong one.
        """
        key, signature = self._keys.get(source), headers.get(b"x-webhook-hmac")
        if signature is not None and key is not None:
            if headers.get(b"x-webhook-hmac-algorithm", b"sha512").lower() != b"sha512":
                raise RejectedError(401, "unknown_algorithm")
            expected = key.copy()
            expected.update(body)
            if not hmac.compare_digest(expected.hexdigest().encode(), signature.strip().lower()):
                raise RejectedError(401, "wrong_signature")
            return
        token = headers.get(b"x-webhook-token")
        if token is not None and self._token is not None and source == DEFAULT_SOURCE:
            if not hmac.compare_digest(self._token, token.strip()):
                raise RejectedError(401, "wrong_token")
            return
        raise RejectedError(401, "unsigned")


class Webhook:
    """ASGI application in front of another one: it answers /webhook and /webhook/{source}, the rest goes on.

    It stands before Starlette's router and middleware, not behind them: those cost a quarter of a request.
    """

    def __init__(self, settings: IngressSettings, publisher: Sink, rest: ASGIApp) -> None:
        self._settings, self._publisher, self._rest = settings, publisher, rest
        self._verifier = Verifier(settings)
        self._in_flight = 0
        self._in_flight_bytes = 0
        metrics.INGRESS_IN_FLIGHT.set_function(lambda: self._in_flight)
        metrics.begin_ingress()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request; whatever happens, WAHA gets a status that makes it do the right thing."""
        if scope["type"] != "http" or not scope["path"].startswith("/webhook"):
            await self._rest(scope, receive, send)
            return
        started = time.perf_counter()
        status, reason = await self._answer(scope, receive)
        _count(metrics.INGRESS_ANSWERS, str(status), reason)
        head, body = _response(status, reason)
        await send(head)
        await send(body)
        metrics.INGRESS_SECONDS.observe(time.perf_counter() - started)

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[int, str]:
        if self._in_flight >= self._settings.max_in_flight:
            return 503, "too_many_in_flight"
        self._in_flight += 1
        held = 0
        try:
            source = self._source(scope["path"])
            if scope["method"] != "POST":
                return 405, "post_only"
            headers = dict(scope["headers"])
            held = self._announced_bytes(headers)
            self._in_flight_bytes += held
            body = await self._read(receive)
            self._verifier.check(source, headers, body)
            return 200, await self._take(body, source, headers)
        except RejectedError as exc:
            return exc.status, exc.reason
        except TransientError as exc:
            return 503, "spool_full" if exc.dependency == "spool" else "broker_away"
        finally:
            self._in_flight -= 1
            self._in_flight_bytes -= held

    def _source(self, path: str) -> str:
        """The source that a path names. Raises RejectedError(404)."""
        if path == "/webhook":
            return DEFAULT_SOURCE
        source = path.removeprefix("/webhook/")
        if not self._verifier.knows(source):
            raise RejectedError(404, "unknown_source")
        return source

    def _announced_bytes(self, headers: dict[bytes, bytes]) -> int:
        """Content-Length within the limits (chunked: the most it may become). Raises RejectedError: 413, 415, 503."""
        kind = headers.get(b"content-type", _JSON)
        if kind != _JSON and kind.partition(b";")[0].strip().lower() != _JSON:
            raise RejectedError(415, "not_json_type")
        length = headers.get(b"content-length", b"")
        announced = int(length) if length.isdigit() else self._settings.max_body_bytes
        if announced > self._settings.max_body_bytes:
            raise RejectedError(413, "too_large")
        if self._in_flight_bytes + announced > self._settings.max_in_flight_bytes:
            raise RejectedError(503, "too_many_bytes_in_flight")
        return announced

    async def _read(self, receive: Receive) -> bytes:
        message = await receive()
        body: bytes = message.get("body", b"")
        if not message.get("more_body", False):
            if message["type"] == "http.disconnect":
                raise RejectedError(400, "disconnected")
            if len(body) > self._settings.max_body_bytes:  # chunked, in one piece
                raise RejectedError(413, "too_large")
            return body
        chunks, size = [body], len(body)
        while message.get("more_body", False):
            message = await receive()
            if message["type"] == "http.disconnect":
                raise RejectedError(400, "disconnected")
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            if size > self._settings.max_body_bytes:
                raise RejectedError(413, "too_large")
        return b"".join(chunks)

    async def _take(self, body: bytes, source: str, request: dict[bytes, bytes]) -> str:
        """Publishes the event, or parks what cannot be read; returns the reason to answer."""
        received_at_ms = time.time_ns() // 1_000_000
        common: Headers = [
            (HEADER_SOURCE, source.encode()),
            (HEADER_RECEIVED_AT_MS, b"%d" % received_at_ms),
        ]
        try:
            envelope = read_envelope(body)
        except UnreadableError as exc:
            await self._park(body, source, exc.reason, common)
            return "parked"
        session = qualify_session(source, envelope.session)
        headers: Headers = [
            (HEADER_EVENT, to_header(envelope.event)),
            (HEADER_EVENT_ID, to_header(envelope.event_id)),
            (HEADER_SESSION, to_header(session)),
            (HEADER_ENGINE, to_header(envelope.engine)),
            *common,
        ]
        key = f"{session}|{envelope.chat}".encode("utf-8", "replace")[:512]
        await self._publish(envelope.topic.name, key, body, headers)
        event = envelope.event if envelope.event in ROUTES else "other"
        _count(metrics.INGRESS_EVENTS, event, envelope.engine if envelope.engine in _ENGINES else "other")
        if self._is_late(request, received_at_ms):
            metrics.INGRESS_LATE.inc()
        return "ok"

    async def _park(self, body: bytes, source: str, reason: str, common: Headers) -> None:
        log.warning("event.parked", extra={"reason": reason, "source": source, "bytes": len(body)})
        await self._publish(PARKED.name, source.encode(), body, [(HEADER_REASON, reason.encode()), *common])

    async def _publish(self, topic: str, key: bytes, body: bytes, headers: Headers) -> None:
        try:
            await self._publisher.publish(topic, key, body, headers, deadline_s=self._settings.deadline_s)
        except PoisonError as exc:
            raise RejectedError(413, exc.reason) from exc
        metrics.INGRESS_BYTES.inc(len(body))

    @staticmethod
    def _is_late(request: dict[bytes, bytes], now_ms: int) -> bool:
        """The header is not signed and WAHA repeats it unchanged: late ones are counted, none is refused."""
        stamp = request.get(b"x-webhook-timestamp", b"")
        return stamp.isdigit() and len(stamp) < 16 and now_ms - int(stamp) > _LATE_AFTER_MS


@cache
def _response(status: int, reason: str) -> tuple[Message, Message]:
    """Head and body of an answer, made once: the reasons are a closed set."""
    body = b"" if status == 200 and reason == "ok" else reason.encode()  # an empty one saves a system call
    headers = [(b"content-length", b"%d" % len(body))]
    if body:
        headers.append((b"content-type", b"text/plain; charset=utf-8"))
    if status == 503:
        headers.append((b"retry-after", _RETRY_AFTER_S))
    elif status == 405:
        headers.append((b"allow", b"POST"))
    return (
        {"type": "http.response.start", "status": status, "headers": headers},
        {"type": "http.response.body", "body": body},
    )


@cache
def _child(metric: Counter, *labels: str) -> Counter:
    return metric.labels(*labels)


def _count(metric: Counter, *labels: str) -> None:
    """One more; label sets are closed, so their children are looked up once."""
    _child(metric, *labels).inc()


@contextlib.asynccontextmanager
async def open_publisher(settings: Settings) -> AsyncIterator[Sink]:
    """Where the ingress puts events. Missing topics stop the start; an absent broker does not: the spool takes over."""
    with contextlib.suppress(TransientError):
        await require_topics(settings.kafka, [*LIVE_TOPICS, PARKED])
    async with Publisher(settings.kafka) as publisher:
        await publisher.wait_ready(2.0)
        async with open_spool(settings, publisher) as sink:
            yield sink


def make_app(settings: Settings, publisher: Sink) -> Webhook:
    """The ingress alone as an ASGI application."""
    routes = health_routes("ingress", alive=lambda: None, ready=lambda: broker_state(publisher))
    return Webhook(settings.ingress, publisher, Starlette(routes=routes))


def broker_state(publisher: Sink) -> str | None:
    """Readiness of the ingress: None, or why events do not go straight to the broker."""
    if publisher.ready:
        return None
    return "spool_draining" if isinstance(publisher, SpoolingPublisher) and publisher.draining else "broker_away"


async def main(settings: Settings) -> None:
    """Process `ingress`: serves until SIGTERM."""
    Verifier(settings.ingress)  # a missing secret is said before anything starts
    async with contextlib.AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(open_publisher(settings))
        if settings.database.password:  # it needs no database: a site may keep the two apart
            pool = await open_pool(settings.database, name="ingress", max_size=1)
            stack.push_async_callback(close_pool, pool)
            await stack.enter_async_context(background(keep_beat(pool)))
        await serve_http(
            make_app(settings, publisher),
            host=settings.ingress.host, port=settings.ingress.port, stop=stop_event(), name="ingress",
        )  # fmt: skip
