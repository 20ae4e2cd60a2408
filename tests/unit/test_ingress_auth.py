"""Who may post a webhook: signatures, tokens, several servers. What is refused is not published."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Any, cast

import orjson
import pytest

from pipeline.errors import ConfigError
from pipeline.settings import load_settings
from producers.ingress import Verifier
from schemas.topics import ROUTES
from tests.golden.messages import FIXTURES
from tests.unit.ingress_client import (
    ANA,
    BERLIN,
    BODY,
    KEY,
    SOURCES,
    TOKEN,
    Remembering,
    app,
    counted,
    post,
    signature,
    signed,
)


# ---------------------------------------------------------------- signatures
async def test_the_vector_of_wahas_documentation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.settings.PLACEHOLDER_SECRETS", frozenset[str]())  # its key is one
    publisher = Remembering()
    vector = (
        "208f8a55dde9e05519e898b10b89bf0d0b3b0fdf11fdbf09b6b90476301b98d8"
        "097c462b2b17a6ce93b6b47a136cf2e78a33a63f6752c2c1631777076153fa89"
    )
    body = b'{"event":"message","session":"default","engine":"WEBJS"}'
    headers = {"X-Webhook-Hmac": vector, "X-Webhook-Hmac-Algorithm": "sha512"}
    answer = await post(app(publisher, WHATSAPP_HOOK_HMAC_KEY="my-secret-key"), body, headers)
    assert answer.status_code == 200
    assert [(r.topic, r.key, r.value) for r in publisher.records] == [("waha.message", b"default|", body)]


async def test_every_recorded_delivery_as_it_was_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes and headers of a real WAHA: answered 200, published byte for byte."""
    monkeypatch.setattr("pipeline.settings.PLACEHOLDER_SECRETS", frozenset[str]())
    publisher = Remembering()
    to = app(publisher, WHATSAPP_HOOK_HMAC_KEY="test-key")
    lines = [orjson.loads(line) for line in (FIXTURES / "waha_observed.jsonl").read_bytes().splitlines()]
    for line in lines:
        assert (await post(to, line["body"].encode(), line["headers"])).status_code == 200
    assert [r.value for r in publisher.records] == [line["body"].encode() for line in lines]
    assert {r.topic for r in publisher.records} == {t.name for t in ROUTES.values()}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda h: h, id="as WAHA signs"),
        pytest.param(lambda h: h | {"X-Webhook-Hmac": h["X-Webhook-Hmac"].upper()}, id="upper case"),
        pytest.param(lambda h: h | {"X-Webhook-Hmac-Algorithm": "SHA512"}, id="algorithm in upper case"),
        pytest.param(lambda h: {"X-Webhook-Hmac": h["X-Webhook-Hmac"]}, id="no algorithm: WAHA has one only"),
        pytest.param(lambda h: h | {"X-Webhook-Token": "wrong"}, id="a token that nobody asked for"),
    ],
)
async def test_right_signatures(change: Callable[[dict[str, str]], dict[str, str]]) -> None:
    publisher = Remembering()
    assert (await post(app(publisher), BODY, change(signed(BODY)))).status_code == 200
    assert len(publisher.records) == 1


WRONG = {
    "none": ({}, "unsigned"),
    "of another key": ({"X-Webhook-Hmac": signature(BODY, "another")}, "wrong_signature"),
    "of another body": ({"X-Webhook-Hmac": signature(BODY + b" ")}, "wrong_signature"),
    "empty": ({"X-Webhook-Hmac": ""}, "wrong_signature"),
    "cut off": ({"X-Webhook-Hmac": signature(BODY)[:-1]}, "wrong_signature"),
    "too long": ({"X-Webhook-Hmac": signature(BODY) + "0"}, "wrong_signature"),
    "no hex": ({"X-Webhook-Hmac": "x" * 128}, "wrong_signature"),
    "sha256 of it": ({"X-Webhook-Hmac": hmac.digest(KEY.encode(), BODY, "sha256").hex()}, "wrong_signature"),
    "algorithm sha256": (signed(BODY) | {"X-Webhook-Hmac-Algorithm": "sha256"}, "unknown_algorithm"),
    "algorithm none": (signed(BODY) | {"X-Webhook-Hmac-Algorithm": "none"}, "unknown_algorithm"),
    "algorithm empty": (signed(BODY) | {"X-Webhook-Hmac-Algorithm": ""}, "unknown_algorithm"),
    "token instead, which is not set": ({"X-Webhook-Token": TOKEN}, "unsigned"),
}


@pytest.mark.parametrize(("headers", "reason"), WRONG.values(), ids=list(WRONG))
async def test_wrong_signatures(headers: dict[str, str], reason: str) -> None:
    publisher, before = Remembering(), counted("wapipe_ingress_answers_total", code="401", reason=reason)
    answer = await post(app(publisher), BODY, headers)
    assert (answer.status_code, answer.text) == (401, reason)
    assert publisher.records == []
    assert counted("wapipe_ingress_answers_total", code="401", reason=reason) == before + 1


async def test_a_signature_of_bytes_that_are_no_text() -> None:
    publisher = Remembering()
    answer = await post(app(publisher), BODY, cast(Any, [(b"X-Webhook-Hmac", "é".encode() * 64)]))
    assert (answer.status_code, publisher.records) == (401, [])


async def test_unsigned_is_401_whatever_the_body_is() -> None:
    """Nobody unknown may park bodies."""
    publisher = Remembering()
    for body in (b"", b"no json", b"[]", b"\xff"):
        assert (await post(app(publisher), body, {})).status_code == 401
    assert publisher.records == []


# ---------------------------------------------------------------- tokens
NO_KEY = {"WHATSAPP_HOOK_HMAC_KEY": "", "WHATSAPP_WEBHOOK_TOKEN": TOKEN}
BOTH = {"WHATSAPP_WEBHOOK_TOKEN": TOKEN}


@pytest.mark.parametrize(
    ("env", "headers", "status", "reason"),
    [
        pytest.param(NO_KEY, {"X-Webhook-Token": TOKEN}, 200, "", id="the token"),
        pytest.param(NO_KEY, {"X-Webhook-Token": "wrong"}, 401, "wrong_token", id="a wrong token"),
        pytest.param(NO_KEY, {"X-Webhook-Token": ""}, 401, "wrong_token", id="an empty token"),
        pytest.param(NO_KEY, {"X-Webhook-Token": TOKEN.upper()}, 401, "wrong_token", id="in upper case"),
        pytest.param(NO_KEY, {}, 401, "unsigned", id="no token"),
        pytest.param(NO_KEY, {"Authorization": f"Bearer {TOKEN}"}, 401, "unsigned", id="in another header"),
        pytest.param(NO_KEY, signed(BODY), 401, "unsigned", id="a signature that nobody can check"),
        pytest.param(NO_KEY, signed(BODY, **{"X-Webhook-Token": TOKEN}), 200, "", id="and the token with it"),
        pytest.param(BOTH, {"X-Webhook-Token": TOKEN}, 200, "", id="both set: the token"),
        pytest.param(BOTH, signed(BODY), 200, "", id="both set: the signature"),
        pytest.param(
            BOTH, signed(BODY, "wrong", **{"X-Webhook-Token": TOKEN}), 401, "wrong_signature",
            id="both set: a token does not heal a wrong signature",
        ),
    ],
)  # fmt: skip
async def test_tokens(env: dict[str, str], headers: dict[str, str], status: int, reason: str) -> None:
    publisher = Remembering()
    answer = await post(app(publisher, **env), BODY, headers)
    assert (answer.status_code, answer.text) == (status, reason)
    assert len(publisher.records) == (status == 200)


# ---------------------------------------------------------------- several servers
@pytest.mark.parametrize(
    ("path", "headers", "status", "reason"),
    [
        pytest.param("/webhook", signed(BODY), 200, "", id="the default source"),
        pytest.param("/webhook/default", signed(BODY), 200, "", id="by its name"),
        pytest.param("/webhook/berlin", signed(BODY, BERLIN), 200, "", id="another source"),
        pytest.param("/webhook/berlin", signed(BODY), 401, "wrong_signature", id="the default's key there"),
        pytest.param("/webhook/lima", signed(BODY, BERLIN), 401, "wrong_signature", id="a third source's key there"),
        pytest.param("/webhook", signed(BODY, BERLIN), 401, "wrong_signature", id="its key at the default"),
        pytest.param("/webhook/berlin", {"X-Webhook-Token": TOKEN}, 401, "unsigned", id="the default's token there"),
        pytest.param("/webhook/paris", signed(BODY), 404, "unknown_source", id="unknown source"),
        pytest.param("/webhook/", signed(BODY), 404, "unknown_source", id="no name"),
        pytest.param("/webhook/berlin/x", signed(BODY, BERLIN), 404, "unknown_source", id="something behind it"),
        pytest.param("/webhook/Berlin", signed(BODY, BERLIN), 404, "unknown_source", id="in another case"),
        pytest.param("/webhooks", signed(BODY), 404, "unknown_source", id="a longer word"),
    ],
)
async def test_sources(path: str, headers: dict[str, str], status: int, reason: str) -> None:
    publisher = Remembering()
    answer = await post(app(publisher, **SOURCES), BODY, headers, path)
    assert (answer.status_code, answer.text) == (status, reason)
    assert len(publisher.records) == (status == 200)


async def test_a_sources_sessions_are_its_own() -> None:
    publisher = Remembering()
    to = app(publisher, **SOURCES)
    await post(to, BODY, signed(BODY), "/webhook")
    await post(to, BODY, signed(BODY, BERLIN), "/webhook/berlin")
    assert [r.key for r in publisher.records] == [f"default|{ANA}".encode(), f"berlin:default|{ANA}".encode()]
    assert [dict(r.headers)["source"] for r in publisher.records] == [b"default", b"berlin"]
    assert [dict(r.headers)["session"] for r in publisher.records] == [b"default", b"berlin:default"]


async def test_without_a_key_the_default_source_takes_nothing() -> None:
    publisher = Remembering()
    env = {"WHATSAPP_HOOK_HMAC_KEY": "", "WAPIPE_SOURCE_HMAC_KEYS": f'{{"berlin": "{BERLIN}"}}'}
    for headers in (signed(BODY), signed(BODY, BERLIN), signed(BODY, ""), {"X-Webhook-Token": ""}):
        assert (await post(app(publisher, **env), BODY, headers)).status_code == 401
    assert publisher.records == []


@pytest.mark.parametrize(
    ("env", "words"),
    [
        pytest.param({}, "neither WHATSAPP_HOOK_HMAC_KEY nor WHATSAPP_WEBHOOK_TOKEN is set", id="nothing set"),
        pytest.param({"WHATSAPP_HOOK_HMAC_KEY": "changeme"}, "WHATSAPP_HOOK_HMAC_KEY has a well-known", id="key"),
        pytest.param({"WHATSAPP_WEBHOOK_TOKEN": "secret"}, "WHATSAPP_WEBHOOK_TOKEN has a well-known", id="token"),
        pytest.param(
            {"WAPIPE_SOURCE_HMAC_KEYS": '{"berlin": "password"}'}, r"KEYS\[berlin\] has a well-known", id="source key"
        ),
        pytest.param(
            {"WAPIPE_SOURCE_HMAC_KEYS": '{"berlin": ""}'}, r"KEYS\[berlin\] is not set", id="empty source key"
        ),
    ],
)
def test_an_ingress_that_anybody_could_post_to_does_not_start(env: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Verifier(load_settings(env).ingress)
