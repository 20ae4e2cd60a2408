"""HTTP to one WAHA server: limits, deadlines, retries, a breaker, and a meaning for every answer.

Knows no endpoint (calls.py does). A call either answers JSON or raises an error of waha.errors. Retried within the call's
deadline: what could not be reached, 429, 5xx, and HTML or other text in place of JSON (a proxy's page). Not retried: 401,
403, 404, 422 (WAHA waited 15 s for the session itself) and every other 4xx.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx
import orjson

from pipeline import metrics
from pipeline.errors import WapipeError
from pipeline.replay.pace import Pace
from pipeline.retry import backoff_s
from pipeline.waha.breaker import Breaker
from pipeline.waha.errors import (
    EngineError,
    KeyRefusedError,
    NotThereError,
    RefusedError,
    SessionNotReadyError,
    StoreDisabledError,
    TooLargeError,
    WahaAwayError,
)

T = TypeVar("T")
Params = Sequence[tuple[str, str]]
Sleep = Callable[[float], Awaitable[None]]

_LONGEST_RETRY_AFTER_S = 300.0
_GATEWAY = (502, 503, 504)


@dataclass(frozen=True, slots=True)
class Limits:
    """How one server is treated: see WahaSettings."""

    concurrency: int = 4
    rate_per_s: float = 50.0
    timeout_s: float = 30.0
    deadline_s: float = 120.0
    max_answer_bytes: int = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers and the whole body of a response."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class WahaClient:
    """One server. Enter it as an async context. `source` names it in metrics; `sleep` and `clock` are for tests."""

    def __init__(
        self, base_url: str, api_key: str | None, limits: Limits | None = None, *, source: str = "default",
        sleep: Sleep = asyncio.sleep, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.base_url, self.source = base_url.rstrip("/"), source
        self._limits = limits or Limits()
        self._sleep, self._clock = sleep, clock
        self._slots = asyncio.Semaphore(self._limits.concurrency)
        self._pace = Pace(self._limits.rate_per_s, clock=clock)
        self._breaker = Breaker(clock=clock)
        self._http = httpx.AsyncClient(
            base_url=self.base_url,
            headers={"X-Api-Key": api_key, "Accept": "application/json"} if api_key else {"Accept": "application/json"},
            timeout=httpx.Timeout(self._limits.timeout_s, connect=min(10.0, self._limits.timeout_s)),
            limits=httpx.Limits(max_connections=self._limits.concurrency),
            follow_redirects=False,  # the key belongs to this origin
            trust_env=False,
        )

    async def __aenter__(self) -> WahaClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    def set_rate(self, rate_per_s: float) -> None:
        """Another limit from now on."""
        self._pace = Pace(rate_per_s, clock=self._clock)

    async def get(self, call: str, path: str, read: Callable[[bytes], T], params: Params = ()) -> T:
        """What `read` makes of the body of a GET: JSON, or b"" for an empty 200. `call` is its name in metrics.

        Raises errors of waha.errors; a body that `read` refuses with one is asked for again.
        """
        return await self._insist("GET", call, path, params, read)

    async def post(self, call: str, path: str) -> None:
        """An idempotent POST: it may be sent more than once."""
        await self._insist("POST", call, path, (), lambda _: None)

    async def put(self, call: str, path: str, value: Any) -> None:
        """A PUT of JSON; it may be sent more than once."""
        await self._insist("PUT", call, path, (), lambda _: None, orjson.dumps(value))

    async def _insist(  # noqa: PLR0917 - what HTTP takes
        self,
        method: str,
        call: str,
        path: str,
        params: Params,
        read: Callable[[bytes], T],
        content: bytes | None = None,
    ) -> T:
        deadline, attempt = self._clock() + self._limits.deadline_s, 0
        while True:
            try:
                return await self._once(method, call, path, params, read, content)
            except (KeyRefusedError, SessionNotReadyError):
                raise
            except WahaAwayError as exc:
                attempt += 1
                wait_s = max(exc.retry_after_s, backoff_s(attempt + 1))
                if self._clock() + wait_s >= deadline:
                    raise
                await self._sleep(wait_s)

    async def _once(  # noqa: PLR0917 - what HTTP takes
        self, method: str, call: str, path: str, params: Params, read: Callable[[bytes], T], content: bytes | None
    ) -> T:
        """One attempt, counted."""
        async with self._slots:
            if (blocked_s := self._breaker.blocked_s()) > 0:
                metrics.WAHA_REQUESTS.labels(self.source, call, "kept_back").inc()
                raise WahaAwayError("it did not answer several times in a row", blocked_s)
            await self._sleep(self._pace.delay_s(1))
            started, outcome = self._clock(), "away"
            try:
                answer = await self._send(method, path, params, content)
                outcome = str(answer.status) if str(answer.status) in metrics.WAHA_OUTCOMES else metrics.OTHER
                value = read(read_answer(answer))
            except (WahaAwayError, httpx.HTTPError, OSError) as exc:
                raise self._judged(exc) from exc
            except WapipeError:
                self._breaker.succeeded()
                raise
            else:
                self._breaker.succeeded()
                return value
            finally:
                metrics.WAHA_REQUESTS.labels(self.source, call, outcome).inc()
                metrics.WAHA_SECONDS.labels(call).observe(self._clock() - started)
                metrics.WAHA_BREAKER_OPEN.labels(self.source).set(self._breaker.is_open)

    async def _send(self, method: str, path: str, params: Params, content: bytes | None) -> Answer:
        typed = {"Content-Type": "application/json"} if content is not None else None
        request = self._http.build_request(method, path, params=list(params) or None, content=content, headers=typed)
        async with asyncio.timeout(self._limits.timeout_s):  # httpx bounds a wait for bytes, not the whole
            response = await self._http.send(request, stream=True)
            try:
                parts, size = [], 0
                async for part in response.aiter_bytes():
                    size += len(part)
                    if size > self._limits.max_answer_bytes:
                        raise TooLargeError(f"an answer of more than {self._limits.max_answer_bytes} bytes")
                    parts.append(part)
            finally:
                await response.aclose()
        return Answer(response.status_code, response.headers, b"".join(parts))

    def _judged(self, exc: Exception) -> WahaAwayError:
        """The error for the caller; the breaker learns whether the server itself answered."""
        if isinstance(exc, EngineError | KeyRefusedError | SessionNotReadyError):
            self._breaker.succeeded()
            return exc
        self._breaker.failed()
        if isinstance(exc, WahaAwayError):
            return exc
        return WahaAwayError(f"{type(exc).__name__}: {exc}"[:300])


def read_answer(answer: Answer) -> bytes:
    """The JSON of a 2xx answer, b"" for an empty one; else the error it means."""
    status = answer.status
    is_json = "json" in answer.headers.get("content-type", "") or answer.body[:1] in (b"{", b"[")
    if 200 <= status < 300:
        if answer.body and not is_json and answer.body != b"null":
            raise WahaAwayError(f"{status} with {answer.headers.get('content-type', 'something')} instead of JSON")
        return answer.body
    if not is_json and status not in (401, 403):  # WAHA's own errors are JSON: this is a proxy's
        raise WahaAwayError(f"{status} with something else than JSON", _retry_after_s(answer))
    said = _said(answer.body)
    if status >= 500 or status == 429:
        raise _failure(answer, said)
    raise _refusal(status, said)


def _failure(answer: Answer, said: dict[str, Any]) -> Exception:
    if _names_store(said):
        return StoreDisabledError()
    detail = f"{answer.status} {_words(said)}"
    if answer.status == 429 or answer.status in _GATEWAY:
        return WahaAwayError(detail, _retry_after_s(answer))
    return EngineError(detail, _retry_after_s(answer))


def _refusal(status: int, said: dict[str, Any]) -> Exception:
    if status in (401, 403):
        return KeyRefusedError(f"{status}: the API key is wrong, or may not read this (WHATSAPP_API_KEY)")
    if status == 404:
        return NotThereError(_words(said))
    if _names_store(said):
        return StoreDisabledError()
    if status == 422:
        return SessionNotReadyError(f"422 {_words(said)}", str(said.get("status") or ""))
    return RefusedError(status, _words(said))


def _names_store(said: dict[str, Any]) -> bool:
    """WAHA's sentence: `Enable NOWEB store "config.noweb.store.enabled=True" …`."""
    return "store.enabled" in _words(said)


def _said(body: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _words(said: dict[str, Any]) -> str:
    """WAHA's own sentence, without what it repeats of the request."""
    for name in ("message", "error"):
        if isinstance(said.get(name), str):
            return str(said[name])[:200]
    if isinstance(exception := said.get("exception"), dict) and isinstance(exception.get("message"), str):
        return str(exception["message"])[:200]
    return "without a reason"


def _retry_after_s(answer: Answer) -> float:
    """Seconds or an HTTP date; 0 for none and for nonsense."""
    text = answer.headers.get("retry-after", "").strip()
    if text.isdigit():
        return min(float(text), _LONGEST_RETRY_AFTER_S)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return min(max(0.0, (at - datetime.now(UTC)).total_seconds()), _LONGEST_RETRY_AFTER_S)
