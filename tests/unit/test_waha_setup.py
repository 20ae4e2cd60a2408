"""What a WAHA session must be set to: what is found wrong, and what is put in its place."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.waha.answers import SessionInfo
from pipeline.waha.setup import (
    NEEDED_EVENTS,
    Wanted,
    find_drift,
    judge_server,
    masked,
    needs_webhook,
    retried_for_s,
    with_webhook,
)

WANTED = Wanted("http://wapipe:4011/webhook", "the key", None)
GOOD = WANTED.webhook()


def session(*hooks: Any, engine: str = "WEBJS", status: str = "WORKING", **config: Any) -> SessionInfo:
    return SessionInfo("default", status, engine, None, None, None, {"webhooks": list(hooks), **config})


def wrong(info: SessionInfo, wanted: Wanted = WANTED, heard_at: str | None = None) -> list[str]:
    return [f.setting for f in find_drift(info, wanted, heard_at) if f.wrong]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({}, []),
        ({"url": WANTED.url + "/"}, []),
        ({"url": "http://elsewhere/webhook"}, ["webhook"]),
        ({"events": ["message.any"]}, ["events"]),
        ({"events": sorted(NEEDED_EVENTS)}, []),
        ({"events": None}, ["events"]),
        ({"hmac": {"key": "another"}}, ["signature"]),
        ({"hmac": None}, ["signature"]),
        ({"retries": None}, ["retries"]),  # WAHA's own 30 seconds
        ({"retries": {"policy": "exponential", "delaySeconds": 2, "attempts": 4}}, ["retries"]),
        ({"retries": {"policy": "constant", "delaySeconds": 60, "attempts": 100}}, []),
    ],
)
def test_a_webhook(change: dict[str, Any], found: list[str]) -> None:
    info = session(GOOD | change)
    assert wrong(info) == found
    assert needs_webhook(info, WANTED) is bool(found)


def test_a_token_in_place_of_a_signature() -> None:
    wanted = Wanted(WANTED.url, None, "the token")
    hook = wanted.webhook()
    assert hook["customHeaders"] == [{"name": "X-Webhook-Token", "value": "the token"}]
    assert wrong(session(hook), wanted) == []
    assert wrong(session(hook | {"customHeaders": [{"name": "x-webhook-token", "value": "other"}]}), wanted) == [
        "signature"
    ]
    assert wrong(session(hook | {"hmac": {"key": "a key that nobody here has"}}), wanted) == ["signature"]


def test_a_webhook_that_rest_does_not_show() -> None:
    assert wrong(session(), heard_at="2026-07-25T10:00:00+00:00") == []
    [note] = find_drift(session(), WANTED, "2026-07-25T10:00:00+00:00")
    assert "WHATSAPP_HOOK_URL" in note.said
    assert wrong(session()) == ["webhook"]


def test_the_state_and_the_store() -> None:
    assert wrong(session(GOOD, status="SCAN_QR_CODE")) == ["state"]
    assert wrong(session(GOOD, engine="NOWEB")) == ["store"]
    assert wrong(session(GOOD, engine="NOWEB", noweb={"store": {"enabled": True}})) == []
    [note] = find_drift(session(GOOD, engine="NOWEB", noweb={"store": {"enabled": True}}), WANTED, None)
    assert "fullSync" in note.said
    full = {"store": {"enabled": True, "fullSync": True}}
    assert find_drift(session(GOOD, engine="NOWEB", noweb=full), WANTED, None) == []


def test_setting_it_leaves_everything_else_alone() -> None:
    other = {"url": "http://crm/hook", "events": ["message"]}
    info = session(other, GOOD | {"events": ["message"]}, GOOD, metadata={"a": "b"})
    assert needs_webhook(info, WANTED)  # two of the same: each event comes twice
    changed = with_webhook(info.config, WANTED)
    assert changed == {"webhooks": [other, GOOD], "metadata": {"a": "b"}}
    assert not needs_webhook(info._replace(config=changed), WANTED)


def test_no_secret_is_shown() -> None:
    shown = str(masked(GOOD)) + str(masked(Wanted("http://a/webhook", None, "the token").webhook()))
    assert "the key" not in shown
    assert "the token" not in shown


def test_how_long_it_is_retried() -> None:
    assert retried_for_s(None) == 30
    assert retried_for_s({"policy": "linear", "delaySeconds": 2, "attempts": 3}) == 12
    assert 36 <= retried_for_s(GOOD["retries"]) / 3600 < 37
    assert retried_for_s({"policy": "exponential", "delaySeconds": "soon", "attempts": -1}) == 0


def test_the_server() -> None:
    assert [(f.setting, f.wrong) for f in judge_server("2024.10.8", 86_400)] == [("version", True)]
    assert [(f.setting, f.wrong) for f in judge_server("2026.4.1", 180)] == [
        ("version", False),
        ("file lifetime", False),
    ]
    assert judge_server("2026.7.1", 0) == []
    assert judge_server("unknown", 86_400) == []
