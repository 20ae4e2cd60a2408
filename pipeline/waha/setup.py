"""What a session of WAHA must be set to so that nothing is lost on its way here, and how what it is set to differs. Pure.

REST shows a session's own settings only: WAHA's environment (WHATSAPP_HOOK_*, WHATSAPP_FILES_LIFETIME) stays unseen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from pipeline.waha.answers import SessionInfo
from schemas.topics import ROUTES

Json = dict[str, Any]
Setting = Literal["version", "webhook", "events", "signature", "retries", "store", "state", "file lifetime"]

POLICY, DELAY_S, ATTEMPTS = "exponential", 2, 15  # some 36 hours: deploy/compose.yaml sets the same
_DEFAULT_RETRIES: Json = {"policy": "constant", "delaySeconds": 2, "attempts": 15}  # WAHA's own
_LONG_ENOUGH_S = 3600.0  # an upgrade of everything, or a full disk that somebody has to see to
_FILES_LONG_ENOUGH_S = 3600.0
_OLDEST = (2024, 11)  # before it events carry no id
_REMEMBERS = (2026, 6, 1)  # before it Core forgets the sessions' own settings when it restarts
# A twin of message.any, deprecated names, an engine's raw events, and what not every version knows.
_NOT_NEEDED = frozenset({
    "message", "message.waiting", "group.join", "group.leave", "state.change", "engine.event",
    "group.v2.participants.join-request",
})  # fmt: skip
NEEDED_EVENTS = frozenset(ROUTES) - _NOT_NEEDED


class Finding(NamedTuple):
    """`wrong`: events or history are, or will be, lost. Otherwise it is worth knowing. `said` says the way out."""

    setting: Setting
    wrong: bool
    said: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """Where a server's sessions should post, and how they sign. One of `hmac_key` and `token` is there."""

    url: str
    hmac_key: str | None
    token: str | None

    def webhook(self) -> Json:
        """The entry of a session's `config.webhooks`."""
        signed: Json = {"hmac": {"key": self.hmac_key}} if self.hmac_key else {}
        if not self.hmac_key and self.token:
            signed = {"customHeaders": [{"name": "X-Webhook-Token", "value": self.token}]}
        retries = {"policy": POLICY, "delaySeconds": DELAY_S, "attempts": ATTEMPTS}
        return {"url": self.url, "events": ["*"], "retries": retries} | signed


def with_webhook(config: Mapping[str, Any], wanted: Wanted) -> Json:
    """The session's settings with our webhook in place of any to the same URL; everything else as it was."""
    others = [hook for hook in _webhooks(config) if not _is_ours(hook, wanted)]
    return {**config, "webhooks": [*others, wanted.webhook()]}


def needs_webhook(info: SessionInfo, wanted: Wanted) -> bool:
    """Whether setting the webhook would change something that matters."""
    ours = [hook for hook in _webhooks(info.config) if _is_ours(hook, wanted)]
    return len(ours) != 1 or any(f.wrong for f in _of_webhook(ours[0], wanted))


def find_drift(info: SessionInfo, wanted: Wanted, heard_at: str | None) -> list[Finding]:
    """What of a session is not as it must be. `heard_at`: when an event of its came here last, None for never."""
    found = []
    if info.status != "WORKING":
        found.append(Finding("state", True, f"is {info.status}: it gets no events and shows no history"))
    ours = [hook for hook in _webhooks(info.config) if _is_ours(hook, wanted)]
    if not ours:
        found.append(_no_webhook(wanted, heard_at))
    elif len(ours) > 1:
        found.append(Finding("webhook", False, f"{len(ours)} webhooks post to {wanted.url}: each event comes as often"))
    for hook in ours[:1]:
        found += _of_webhook(hook, wanted)
    return found + _of_store(info)


def judge_server(version: str, files_lifetime_s: float) -> list[Finding]:
    """What of a server is worth knowing."""
    found = []
    parts = _parts(version)
    if parts and parts < _OLDEST:
        found.append(
            Finding("version", True, f"{version} is too old: its events carry no id. 2024.11 is the oldest that works")
        )
    elif parts and parts < _REMEMBERS:
        said = (
            f"{version} may forget webhooks when it restarts (2026.6.1 does not): set WHATSAPP_HOOK_URL in WAHA as well"
        )
        found.append(Finding("version", False, said))
    if 0 < files_lifetime_s < _FILES_LONG_ENOUGH_S:
        said = (
            f"WHATSAPP_FILES_LIFETIME is {files_lifetime_s:g} s here: a file that is not fetched by then is lost. Set 86400 in "
            "WAHA and here; REST does not show what WAHA has"
        )
        found.append(Finding("file lifetime", False, said))
    return found


def masked(hook: Mapping[str, Any]) -> Json:
    """A webhook to show to people."""
    shown = dict(hook)
    if "hmac" in shown:
        shown["hmac"] = {"key": "***"}
    if isinstance(headers := shown.get("customHeaders"), list):
        shown["customHeaders"] = [{**h, "value": "***"} for h in headers if isinstance(h, dict)]
    return shown


def _webhooks(config: Mapping[str, Any]) -> list[Json]:
    hooks = config.get("webhooks")
    return [hook for hook in hooks if isinstance(hook, dict)] if isinstance(hooks, list) else []


def _is_ours(hook: Mapping[str, Any], wanted: Wanted) -> bool:
    return str(hook.get("url", "")).rstrip("/") == wanted.url.rstrip("/")


def _no_webhook(wanted: Wanted, heard_at: str | None) -> Finding:
    if heard_at is not None:
        said = f"none of its own, yet its events came (last at {heard_at}): WAHA's WHATSAPP_HOOK_URL does it, unseen by REST"
        return Finding("webhook", False, said)
    return Finding("webhook", True, f"nothing posts to {wanted.url}: `wapipe waha connect` sets it")


def _of_webhook(hook: Mapping[str, Any], wanted: Wanted) -> list[Finding]:
    found = []
    events = hook.get("events")
    told = {str(e) for e in events} if isinstance(events, list) else set()
    if "*" not in told and (missing := NEEDED_EVENTS - told):
        found.append(Finding("events", True, f"not subscribed: {', '.join(sorted(missing))}. `*` is simplest"))
    if not _is_signed(hook, wanted):
        found.append(Finding("signature", True, "is not signed as wapipe expects: every event is answered 401"))
    span_s = retried_for_s(hook.get("retries"))
    if span_s < _LONG_ENOUGH_S:
        said = (
            f"WAHA gives up after {span_s:g} s, and then an event is gone: set policy {POLICY}, "
            f"delaySeconds {DELAY_S}, attempts {ATTEMPTS}"
        )
        found.append(Finding("retries", True, said))
    return found


def _is_signed(hook: Mapping[str, Any], wanted: Wanted) -> bool:
    hmac, headers = hook.get("hmac"), hook.get("customHeaders")
    key = hmac.get("key") if isinstance(hmac, dict) else None
    if key:  # a signature that is there must be right, whatever the token
        return bool(key == wanted.hmac_key)
    named = {str(h.get("name")).lower(): h.get("value") for h in headers or () if isinstance(h, dict)}
    return wanted.token is not None and named.get("x-webhook-token") == wanted.token


def retried_for_s(retries: Any) -> float:
    """How long WAHA tries to deliver an event (waits alone)."""
    said = {**_DEFAULT_RETRIES, **(retries if isinstance(retries, dict) else {})}
    delay_s, attempts = _number(said["delaySeconds"]), min(int(_number(said["attempts"])), 64)
    match said["policy"]:
        case "exponential":
            return delay_s * (2.0 ** (attempts + 1) - 2)
        case "linear":
            return delay_s * attempts * (attempts + 1) / 2
    return delay_s * attempts


def _of_store(info: SessionInfo) -> list[Finding]:
    """NOWEB keeps no history unless it is told to, before pairing."""
    if info.engine != "NOWEB":
        return []
    noweb = info.config.get("noweb")
    store = noweb.get("store") if isinstance(noweb, dict) else None
    if not isinstance(store, dict) or store.get("enabled") is not True:
        said = (
            "is off: no history can be fetched. Set config.noweb.store.enabled=true in WAHA, and pair the session again"
        )
        return [Finding("store", True, said)]
    if store.get("fullSync") is not True:
        said = "holds about three months; config.noweb.store.fullSync=true before pairing makes it a year"
        return [Finding("store", False, said)]
    return []


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and value > 0 else 0.0


def _parts(version: str) -> tuple[int, ...]:
    """Empty for what is no version."""
    numbers = version.split(".")
    return tuple(map(int, numbers)) if all(n.isdigit() for n in numbers) else ()
