"""The envelope around every webhook of WAHA and its bytes on the wire.

Pure: ids take their randomness from the caller's `random.Random` and their time from the caller's clock.
"""

from __future__ import annotations

import hashlib
import hmac
from random import Random

import orjson

from producers.simulator.facts import Account, Engine, Json

_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [a + b for a in _CROCKFORD for b in _CROCKFORD]  # ten bits of a ULID at a time
_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"

_BROWSERS: dict[Engine, str | None] = {
    "WEBJS": "/usr/bin/chromium",
    "WPP": "/usr/bin/chromium",
    "NOWEB": None,
    "GOWS": None,
}


def to_json(value: Json) -> bytes:
    """Compact JSON with raw UTF-8, the bytes that JSON.stringify writes."""
    return orjson.dumps(value)


def sign(body: bytes, key: str) -> str:
    """X-Webhook-Hmac: HMAC-SHA512 over the raw body, lower-case hex."""
    return hmac.digest(key.encode(), body, hashlib.sha512).hex()


def envelope_id(rng: Random, at_ms: int) -> str:
    """`evt_` and a lower-case ULID: 48 bits of time, 80 random bits."""
    bits = at_ms << 80 | rng.getrandbits(80)
    return "evt_" + "".join([_PAIRS[bits >> shift & 1023] for shift in range(120, -1, -10)])


class RequestIds:
    """X-Webhook-Request-Id as uniqid makes it: the process's prefix, then a never repeating base-36 time."""

    def __init__(self, rng: Random) -> None:
        self._prefix = "".join(rng.choices(_BASE36, k=9))
        self._last_ms = 0

    def next(self, at_ms: int) -> str:
        """The next id, about 17 characters."""
        self._last_ms = max(at_ms, self._last_ms + 1)
        digits, rest = "", self._last_ms
        while rest:
            rest, digit = divmod(rest, 36)
            digits = _BASE36[digit] + digits
        return self._prefix + digits


def me_of(account: Account) -> Json:
    """`me`: the order of its keys and the `jid` depend on the engine."""
    me = account.me
    if account.engine in ("WEBJS", "WPP"):
        return {"id": me.id, "lid": me.lid, "pushName": me.name}
    out: Json = {"id": me.id, "pushName": me.name, "lid": me.lid}
    if account.engine == "GOWS":
        out["jid"] = f"{me.number}:{account.device}@s.whatsapp.net"
    return out


def envelope(account: Account, event: str, payload: Json, *, id_: str, at_ms: int, paired: bool = True) -> Json:
    """The whole body as an object. `paired=False` gives `me: null`, as before the first QR scan."""
    out: Json = {"id": id_, "timestamp": at_ms, "event": event, "session": account.session}
    if account.metadata:
        out["metadata"] = dict(account.metadata)  # absent, not null, when the session has none
    out["me"] = me_of(account) if paired else None
    out["payload"] = payload
    out["engine"] = account.engine
    out["environment"] = {
        "version": account.version,
        "engine": account.engine,
        "tier": account.tier,
        "browser": _BROWSERS[account.engine],
        "platform": account.platform,
        "worker": {"id": account.worker},
    }
    return out


def headers_of(version: str, request_id: str, at_ms: int) -> dict[str, str]:
    """The headers of one delivery without its signature. `at_ms` is the envelope's time, also on retries."""
    return {
        "Accept": "application/json, text/plain, */*",
        "Content-Type": "application/json",
        "User-Agent": f"WAHA/{version}",
        "X-Webhook-Request-Id": request_id,
        "X-Webhook-Timestamp": str(at_ms),
        "Accept-Encoding": "gzip, compress, deflate, br",
    }
