"""Small parts of media: names and types of files, what an event says of a file, limits."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
import zipfile

import orjson
import psutil
import pytest

from pipeline.errors import ConfigError
from pipeline.local.state import wait_gone
from pipeline.media.kinds import disposition, file_name, served_type, sniff
from pipeline.media.limits import Away, Memory
from pipeline.media.objects import object_key, sha256_of, thumbnail_key
from pipeline.settings import load_settings
from schemas.keys import ME, PEER
from schemas.media import MediaFact, session_of, to_media
from schemas.normalize.head import Record
from tests.site import fixture_lines

RECORD = Record("message", "default", 1_784_973_600_500)


def _zip(name: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(name, "x")
    return out.getvalue()


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\xff\xd8\xff\xe0\x00\x10JFIF\x00", ("image/jpeg", "jpg")),
        (b"\x89PNG\r\n\x1a\n" + bytes(20), ("image/png", "png")),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", ("image/webp", "webp")),
        (b"OggS\x00\x02" + bytes(22) + b"OpusHead", ("audio/ogg", "ogg")),
        (b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom", ("video/mp4", "mp4")),
        (b"%PDF-1.7\n", ("application/pdf", "pdf")),
        (_zip("a.txt"), ("application/zip", "zip")),
        (b"<!doctype html><script>", None),
        (b"<?xml version='1.0'?><svg>", None),
        (b"hello", None),
        (b"", None),
    ],
)
def test_types_come_from_the_bytes(head: bytes, kind: tuple[str, str] | None) -> None:
    assert sniff(head) == kind


@pytest.mark.parametrize(
    ("sniffed", "served", "how"),
    [
        ("image/jpeg", "image/jpeg", "inline"), ("video/mp4", "video/mp4", "inline"),
        ("application/pdf", "application/pdf", "attachment"), ("image/svg+xml", "application/octet-stream", "attachment"),
        ("text/html", "application/octet-stream", "attachment"), (None, "application/octet-stream", "attachment"),
    ],
)  # fmt: skip
def test_nothing_is_served_that_a_browser_runs(sniffed: str | None, served: str, how: str) -> None:
    assert served_type(sniffed) == served
    assert disposition(sniffed, "a.bin").startswith(f"{how}; ")


@pytest.mark.parametrize(
    ("claimed", "extension", "name"),
    [
        ("photo.jpeg", "jpg", "photo.jpeg"), ("photo.png", "jpg", "photo.png.jpg"), (None, "jpg", "A1.jpg"),
        (None, None, "A1"), ("../../etc/passwd", None, "passwd"), ("C:\\Users\\x\\a.pdf", "pdf", "a.pdf"),
        (".htaccess", None, "htaccess"), ("a\x00b\r\nc.txt", None, "abc.txt"), ("\u202egnp.exe", None, "gnp.exe"),
        ('a"b;c%d.txt', None, "a_b_c_d.txt"), ("   ", "jpg", "A1.jpg"), ("n" * 400, "pdf", "n" * 150 + ".pdf"),
        ("Rechnung März.pdf", "pdf", "Rechnung März.pdf"), ("voice.oga", "ogg", "voice.oga"),
    ],
)  # fmt: skip
def test_names_are_made_harmless(claimed: str | None, extension: str | None, name: str) -> None:
    assert file_name(claimed, extension, "A1") == name


def test_a_header_holds_any_name() -> None:
    text = disposition("image/png", "März €.png")
    assert text.isascii()
    assert "filename*=UTF-8''M%C3%A4rz%20%E2%82%AC.png" in text
    assert "\r" not in disposition(None, file_name("a\r\nX-Evil: 1", None, "x"))


def test_keys_of_objects() -> None:
    sha256 = bytes.fromhex("abcd" + "0" * 60)
    assert object_key(sha256) == f"sha256/ab/cd/{sha256.hex()}"
    assert thumbnail_key(sha256) == f"thumbnails/ab/cd/{sha256.hex()}.jpg"
    assert sha256_of(object_key(sha256)) == sha256
    assert sha256_of(f"sha256/00/00/{sha256.hex()}") is None
    assert sha256_of("sha256/ab/cd/nonsense") is None


def facts(*, quoted: bool = False, **payload: object) -> list[MediaFact]:
    full = {"id": "false_5511@c.us_A1", "timestamp": 1_784_973_600, **payload}
    body = {"event": "message", "session": "s", "id": "evt_1", "timestamp": 1_784_973_600_123, "payload": full,
            "me": {"id": "49@c.us"}}  # fmt: skip
    return to_media(orjson.dumps(body), RECORD, quoted=quoted)


def test_what_an_event_says_of_its_file() -> None:
    media = {
        "url": "http://x/api/files/s/A1.jpeg",
        "mimetype": "image/jpeg",
        "filename": "a.jpg",
        "s3": {"Bucket": "b", "Key": "s/A1"},
    }
    data = {"message": {"imageMessage": {"fileLength": "5", "fileSha256": {"type": "Buffer", "data": [7] * 32}}}}
    [fact] = facts(hasMedia=True, media=media, _data=data)
    assert (fact.message_id, fact.author, fact.type, fact.url) == ("false_5511@c.us_A1", PEER, "image", media["url"])
    assert (fact.s3_bucket, fact.s3_key, fact.bytes, fact.sha256) == ("b", "s/A1", 5, "07" * 32)
    assert (fact.ts_ms, fact.stamped_ms) == (1_784_973_600_000, 1_784_973_600_123)


def test_what_has_no_file_is_no_order() -> None:
    assert facts(body="hello", hasMedia=False) == []
    assert facts(body="hello", replyTo={"id": "Q1", "media": {"url": "http://x/api/files/s/Q1.jpeg"}}) == []
    edit = {"protocolMessage": {"type": 14, "key": {"id": "A0"}, "editedMessage": {"conversation": "x"}}}
    assert facts(hasMedia=True, _data={"message": edit}) == []


def test_a_file_that_waha_does_not_have_yet_is_an_order_all_the_same() -> None:
    [fact] = facts(hasMedia=True, media={"url": None, "mimetype": "video/mp4", "error": {"message": "no"}})
    assert (fact.url, fact.type) == (None, "video")
    [fact] = facts(hasMedia=True)
    assert fact.url is None


def test_the_quoted_file_is_the_quoted_messages() -> None:
    media = {"url": "http://x/api/files/s/Q1.jpeg", "mimetype": "image/jpeg"}
    [fact] = facts(quoted=True, replyTo={"id": "Q1", "participant": "49@c.us", "media": media})
    assert (fact.raw_id, fact.author, fact.message_id, fact.type) == ("Q1", ME, "true_5511@c.us_Q1", "image")
    [fact] = facts(quoted=True, replyTo={"id": "Q1", "participant": "5511@c.us", "media": media})
    assert (fact.author, fact.message_id) == (PEER, "false_5511@c.us_Q1")
    group = {"id": "false_1@g.us_A1_5511@c.us", "participant": "5511@c.us"}
    [fact] = facts(quoted=True, replyTo={"id": "Q1", "participant": "77@lid", "media": media}, **group)
    assert (fact.author, fact.message_id) == ("77@lid", "false_1@g.us_Q1_77@lid")
    assert facts(quoted=True, replyTo={"id": "Q1", "media": {"url": None}}) == []


def test_every_observed_delivery_can_be_read() -> None:
    """Real deliveries: each message with a file makes one order, and nothing else makes any."""
    found = 0
    for line in fixture_lines("waha_observed"):
        body = orjson.loads(line["body"])
        if body["event"] not in ("message", "message.any"):
            continue
        orders = to_media(line["body"].encode(), Record(body["event"], "default", 1))
        assert len(orders) == bool(body["payload"].get("hasMedia"))
        found += len(orders)
    assert found > 0


def test_sessions_of_other_servers() -> None:
    assert session_of("default") == ("default", "default")
    assert session_of("berlin:sales") == ("berlin", "sales")


async def test_memory_is_given_in_turn() -> None:
    memory, order = Memory(20 * 1024 * 1024), list[str]()
    leave = asyncio.Event()

    async def hold(name: str, size: int | None) -> None:
        async with memory.reserved(size):
            order.append(name)
            await leave.wait()

    tasks = [
        asyncio.create_task(hold(n, s))
        for n, s in (("large", 10**9), ("unknown", None), ("waits", 10**9), ("small", 1))
    ]
    for _ in range(5):
        await asyncio.sleep(0)
    assert order == ["large", "unknown"]
    tasks[2].cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    assert order == ["large", "unknown"], "there is no room for one byte more"
    leave.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert order == ["large", "unknown", "small"]


def test_who_is_away_is_left_alone() -> None:
    now = 0.0
    away = Away(clock=lambda: now)
    for _ in range(2):
        away.failed("waha")
    assert not away.blocked("waha")
    away.failed("waha")
    assert away.blocked("waha")
    assert away.trying("waha")
    now = 60.0
    assert not away.blocked("waha")
    assert away.trying("waha"), "one request shows whether it is back"
    away.answered("waha")
    assert not away.trying("waha")
    for _ in range(3):
        away.failed("waha")
    now += 100.0
    assert away.trying("waha")
    now += 100.0
    assert not away.trying("waha"), "nobody wanted anything of it, so nobody knows"
    away.failed("waha")
    assert not away.trying("waha"), "one failure is no outage"


@pytest.mark.parametrize("address", ["127.0.0.1:3310", "clamd:3310", "[::1]:3310", "/run/clamav/clamd.ctl"])
def test_addresses_of_clamd(address: str) -> None:
    assert load_settings({"WAPIPE_MEDIA_CLAMD": address}).media.clamd == address


@pytest.mark.parametrize("address", ["clamd", "clamd:", ":3310", "clamd:x", "clamd:0", "clamd:70000"])
def test_what_is_no_address_of_clamd(address: str) -> None:
    with pytest.raises(ConfigError, match="WAPIPE_MEDIA_CLAMD"):
        load_settings({"WAPIPE_MEDIA_CLAMD": address})


def test_two_scanners_are_one_too_many() -> None:
    with pytest.raises(ConfigError, match="only one of"):
        load_settings({"WAPIPE_MEDIA_CLAMD": "clamd:3310", "WAPIPE_MEDIA_SCAN_COMMAND": "clamdscan -"})


_POOL = """
import multiprocessing, os, time
from concurrent.futures import ProcessPoolExecutor
from pipeline.media.picture import limit_process
pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"), initializer=limit_process)
print(pool.submit(os.getpid).result(), flush=True)
time.sleep(600)
"""


def test_the_worker_of_thumbnails_ends_with_a_process_that_is_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", _POOL], stdout=subprocess.PIPE, text=True)
    with parent:
        assert parent.stdout
        worker = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    assert wait_gone([worker], 30)
