"""The envelope's parts: ids, order of keys, bytes, signature."""

from __future__ import annotations

import re
from random import Random

import orjson
import pytest

from producers.simulator.envelopes import (
    RequestIds,
    envelope,
    envelope_id,
    headers_of,
    me_of,
    sign,
    to_json,
)
from producers.simulator.facts import ENGINES, Account, Engine, Person

ME = Person("4915112345678", "99887766554433", "Acme Support")
AT_MS = 1_795_317_142_109


def account(engine: Engine = "NOWEB", metadata: dict[str, str] | None = None) -> Account:
    return Account("default", engine, ME, metadata=metadata)


def test_signature_is_the_one_of_wahas_documentation() -> None:
    body = b'{"event":"message","session":"default","engine":"WEBJS"}'
    assert sign(body, "my-secret-key") == (
        "208f8a55dde9e05519e898b10b89bf0d0b3b0fdf11fdbf09b6b90476301b98d8"
        "097c462b2b17a6ce93b6b47a136cf2e78a33a63f6752c2c1631777076153fa89"
    )


def test_envelope_id_is_a_lower_case_ulid_of_its_time() -> None:
    id_ = envelope_id(Random(1), AT_MS)
    assert re.fullmatch(r"evt_[0-9a-hjkmnp-tv-z]{26}", id_)
    assert id_.startswith("evt_01m80kv4jx")  # a recorded one of the millisecond before has …jw


def test_envelope_ids_sort_by_time() -> None:
    rng = Random(2)
    ids = [envelope_id(rng, AT_MS + n) for n in range(50)]
    assert ids == sorted(ids)


def test_request_ids_never_repeat_within_a_millisecond() -> None:
    ids = RequestIds(Random(3))
    made = [ids.next(AT_MS) for _ in range(100)]
    assert len(set(made)) == 100
    assert all(re.fullmatch(r"[0-9a-z]{17}", i) for i in made)
    assert int(made[0][9:], 36) == AT_MS


@pytest.mark.parametrize("engine", ENGINES)
def test_key_order_of_the_envelope(engine: Engine) -> None:
    made = envelope(account(engine, {"tenant": "acme"}), "message", {}, id_="evt_x", at_ms=AT_MS)
    assert list(made) == [
        "id", "timestamp", "event", "session", "metadata", "me", "payload", "engine", "environment",
    ]  # fmt: skip
    assert made["environment"]["engine"] == engine


def test_metadata_is_absent_without_any() -> None:
    assert "metadata" not in envelope(account(), "message", {}, id_="evt_x", at_ms=AT_MS)


def test_me_is_null_before_pairing() -> None:
    made = envelope(account(), "session.status", {}, id_="evt_x", at_ms=AT_MS, paired=False)
    assert made["me"] is None


def test_me_by_engine() -> None:
    assert list(me_of(account("NOWEB"))) == ["id", "pushName", "lid"]
    assert list(me_of(account("GOWS"))) == ["id", "pushName", "lid", "jid"]
    assert list(me_of(account("WEBJS"))) == list(me_of(account("WPP"))) == ["id", "lid", "pushName"]


def test_bytes_are_compact_raw_utf8_like_json_stringify() -> None:
    body = to_json({"a": "Olá 👩‍💻 \u2028", "b": [1, 1.5, None, True], "c": '\n\t"\\\u0000\u001f\u007f/'})
    assert body == ('{"a":"Olá 👩‍💻 \u2028","b":[1,1.5,null,true],"c":"\\n\\t\\"\\\\\\u0000\\u001f\u007f/"}'.encode())
    assert orjson.loads(body)["a"].startswith("Olá")


def test_headers() -> None:
    made = headers_of("2026.7.1", "3b2ozllclmwr9h0m6", AT_MS)
    assert made["User-Agent"] == "WAHA/2026.7.1"
    assert made["X-Webhook-Timestamp"] == str(AT_MS)
    assert made["X-Webhook-Request-Id"] == "3b2ozllclmwr9h0m6"
    assert made["Content-Type"] == "application/json"
