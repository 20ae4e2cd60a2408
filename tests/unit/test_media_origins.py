"""The guard: what a payload names, and what is asked of whom because of it."""

from __future__ import annotations

import pytest

from pipeline.media.origins import Addresses, Guard, OriginRefusedError, Target, kind_of

WAHA = "http://waha:3000"
STORE = "https://s3.example.com"


def target(url: str, *, base: str = WAHA) -> Target:
    return Guard(base, [STORE]).target(url)


@pytest.mark.parametrize(
    "url",
    ["http://localhost:3000/api/files/default/A1.jpeg", "http://127.0.0.1:3000/api/files/default/A1.jpeg",
     "https://elsewhere.example.com/api/files/default/A1.jpeg", "http://[::1]:3000/api/files/default/A1.jpeg",
     "http://2130706433/api/files/default/A1.jpeg", "http://0177.0.0.1/api/files/default/A1.jpeg"],
)  # fmt: skip
def test_wahas_own_paths_are_asked_of_the_configured_waha_whatever_the_host(url: str) -> None:
    found = target(url)
    assert (found.url, found.with_key) == (f"{WAHA}/api/files/default/A1.jpeg", True)


def test_a_waha_below_a_path() -> None:
    for url in ("http://localhost:3000/api/files/default/A1.jpeg", "https://x/waha/api/files/default/A1.jpeg"):
        assert target(url, base="https://x/waha").url == "https://x:443/waha/api/files/default/A1.jpeg"


def test_a_presigned_url_stays_as_it_is_and_gets_no_key() -> None:
    url = f"{STORE}/bucket/default/A1.jpeg?X-Amz-Signature=a%2Fb"
    assert target(url) == Target(url, target(url).origin, with_key=False)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://169.254.169.254/latest/meta-data/", "origin_refused"),
        ("http://waha:3000/api/sessions", "origin_refused"),
        ("http://waha:3000/api/files/../sessions", "origin_refused"),
        ("http://waha:3000/api/files/%2e%2e/sessions", "origin_refused"),
        ("http://waha:3000/api/files/%252e%252e/sessions", "origin_refused"),
        ("http://waha:3000/api/files/a%00b", "origin_refused"),
        ("http://waha:3000/api/files/a?session=other", "origin_refused"),
        ("http://s3.example.com/bucket/A1.jpeg", "origin_refused"),  # another scheme is another origin
        ("https://s3.example.com:8443/bucket/A1.jpeg", "origin_refused"),
        ("https://s3.example.com.evil.test/bucket/A1.jpeg", "origin_refused"),
        ("https://s3.example.com@evil.test/bucket/A1.jpeg", "credentials_in_url"),
        ("http://user:pass@waha:3000/api/files/default/A1.jpeg", "credentials_in_url"),
        ("file:///etc/passwd", "scheme_refused"),
        ("ftp://waha/api/files/a", "scheme_refused"),
        ("gopher://waha/api/files/a", "scheme_refused"),
        ("data:text/html,x", "scheme_refused"),
        ("//waha:3000/api/files/a", "scheme_refused"),
        ("http:///api/files/a", "url_malformed"),
        ("http://waha:99999/api/files/a", "url_malformed"),
        ("http://waha:3000/api/files/a b", "url_malformed"),
        ("http://waha:3000\\@evil.test/api/files/a", "url_malformed"),
        ("http://wаha:3000/api/files/a", "url_malformed"),  # a Cyrillic letter
        ("", "scheme_refused"),
        ("http://waha:3000/api/files/" + "a" * 5000, "url_malformed"),
    ],
)
def test_what_is_asked_of_nobody(url: str, reason: str) -> None:
    with pytest.raises(OriginRefusedError) as caught:
        target(url)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("location", "leads_to"),
    [
        ("/api/files/default/B.jpeg", f"{WAHA}/api/files/default/B.jpeg"),
        ("http://waha:3000/api/files/default/B.jpeg", "http://waha:3000/api/files/default/B.jpeg"),
        ("/api/sessions", None),
        ("//evil.test/api/files/a", None),
        ("http://evil.test/api/files/a", None),
        ("https://waha:3000/api/files/a", None),
        ("", None),
    ],
)
def test_redirects_stay_where_they_came_from(location: str, leads_to: str | None) -> None:
    guard = Guard(WAHA, [STORE])
    before = guard.target("http://localhost/api/files/default/A.jpeg")
    if leads_to is None:
        with pytest.raises(OriginRefusedError):
            guard.redirected(before, location)
    else:
        assert guard.redirected(before, location).url == leads_to


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("127.0.0.1", "loopback"), ("::1", "loopback"), ("::ffff:127.0.0.1", "loopback"), ("64:ff9b::7f00:1", "loopback"),
        ("10.0.0.1", "private"), ("192.168.1.1", "private"), ("172.18.0.2", "private"), ("fd00::1", "private"),
        ("::ffff:10.0.0.1", "private"), ("2002:a00:1::", "private"), ("100.64.0.1", "private"),
        ("93.184.216.34", "public"), ("2606:2800:220:1::1", "public"),
        ("169.254.169.254", "refused"), ("fe80::1%eth0", "refused"), ("::ffff:169.254.169.254", "refused"),
        ("0.0.0.0", "refused"), ("::", "refused"), ("224.0.0.1", "refused"), ("255.255.255.255", "refused"),
    ],
)  # fmt: skip
def test_kinds_of_addresses(address: str, kind: str) -> None:
    assert kind_of(address) == kind


def test_a_name_that_moves_into_the_local_network_is_refused() -> None:
    addresses = Addresses()
    addresses.check("waha.example.com", "93.184.216.34")
    addresses.check("waha.example.com", "93.184.216.35")
    for inside in ("127.0.0.1", "10.0.0.1", "::1", "169.254.169.254"):
        with pytest.raises(OriginRefusedError, match="address_refused"):
            addresses.check("waha.example.com", inside)
    addresses.check("waha", "172.18.0.2")  # another name may be there
