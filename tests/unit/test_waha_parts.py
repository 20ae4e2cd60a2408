"""The parts of WAHA's client that need no server: the breaker, settings by source, odd answers."""

from __future__ import annotations

import pytest

from pipeline.errors import ConfigError
from pipeline.settings import load_settings
from pipeline.waha import WahaServers, split_session
from pipeline.waha.answers import read_chats, read_contacts, read_groups, read_message, read_page
from pipeline.waha.breaker import Breaker


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_breaker_opens_after_failures_in_a_row_and_lets_one_through_each_time() -> None:
    clock = Clock()
    breaker = Breaker(clock=clock)
    for _ in range(4):
        breaker.failed()
    breaker.succeeded()
    for _ in range(4):
        breaker.failed()
    assert breaker.blocked_s() == 0
    breaker.failed()
    assert breaker.is_open
    assert breaker.blocked_s() == 2
    clock.now += 2
    assert breaker.blocked_s() == 0
    assert breaker.blocked_s() == 4  # somebody else's request while the trial is under way
    breaker.failed()
    assert breaker.blocked_s() == 4
    clock.now += 4
    assert breaker.blocked_s() == 0
    breaker.succeeded()
    assert not breaker.is_open
    assert breaker.blocked_s() == 0


def test_the_breaker_never_waits_longer_than_a_minute() -> None:
    clock = Clock()
    breaker = Breaker(clock=clock)
    for _ in range(20):
        breaker.failed()
    assert breaker.blocked_s() == 60


def test_a_session_knows_its_server() -> None:
    env = {
        "WAPIPE_WAHA_URL": "http://waha-1:3000/",
        "WAPIPE_WAHA_SOURCE_URLS": '{"berlin": "http://waha-2:3000"}',
        "WHATSAPP_API_KEY": "one-of-many-keys",
        "WAPIPE_WAHA_SOURCE_API_KEYS": '{"berlin": "another-key"}',
    }
    servers = WahaServers(load_settings(env).waha)
    waha, name = servers.of("berlin:acme")
    assert (waha.client.base_url, name) == ("http://waha-2:3000", "acme")
    waha, name = servers.of("acme")
    assert (waha.client.base_url, name) == ("http://waha-1:3000", "acme")
    with pytest.raises(ConfigError, match="oslo"):
        servers.of("oslo:acme")
    assert split_session("berlin:acme") == ("berlin", "acme")


@pytest.mark.parametrize("url", ["ftp://waha", "waha:3000", "http://user:secret@waha:3000", "http://"])
def test_urls_that_cannot_be(url: str) -> None:
    with pytest.raises(ConfigError, match="http"):
        load_settings({"WAPIPE_WAHA_URL": url})
    with pytest.raises(ConfigError, match="http"):
        load_settings({"WAPIPE_WAHA_SOURCE_URLS": f'{{"berlin": "{url}"}}'})


def test_a_placeholder_is_no_key() -> None:
    with pytest.raises(ConfigError, match="placeholder"):
        WahaServers(load_settings({"WHATSAPP_API_KEY": "changeme"}).waha)


def test_answers_of_wrong_types_read_as_missing() -> None:
    assert read_chats(
        b'[{"id": 7}, {"id": "49151@s.whatsapp.net", "conversationTimestamp": {"low": 5, "high": 0}}, 3]'
    ) == [("49151@c.us", None, 5)]
    assert read_contacts(b'[{"id": "1@c.us", "name": 5, "lid": null}, {"id": "1@g.us"}]') == [
        ("1@c.us", None, None, None)
    ]
    assert read_groups(b"{}") == []
    assert read_groups(b'[{"JID": "5@g.us", "Name": "A", "Topic": "B", "OwnerJID": "1@s.whatsapp.net"}]') == [
        ("5@g.us", "A", "B", "1@c.us")
    ]
    assert read_message(b"") is None
    assert read_page(b"") == []
    assert read_page(b'[{"id": "x", "timestamp": 1784973600.5, "a": 1e2}]') == [
        ("x", 1_784_973_600, b'{"id": "x", "timestamp": 1784973600.5, "a": 1e2}')
    ]


def test_media_in_wahas_own_store() -> None:
    found = read_message(
        b'{"id": "x", "hasMedia": true, "media": {"url": null, "s3": {"Bucket": "b", "Key": "k"}, "error": {}}}'
    )
    assert found is not None
    assert found.media == (None, None, None, "b", "k", False)
