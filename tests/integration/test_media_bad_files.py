"""Files that are not what they should be, and places from which nothing is fetched."""

from __future__ import annotations

import asyncio
import base64
import io
import sys
import zlib
from typing import Any

import pytest
from PIL import Image
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse

from pipeline.media.decoders import decoded_types
from pipeline.media.fetch import Fetcher
from pipeline.media.objects import thumbnail_key
from pipeline.media.origins import Addresses, Guard, OriginRefusedError
from pipeline.media.sources import Place
from producers.simulator.rest.media import CutResponse
from tests.integration.files import JPEG, Desk, Files, digest, downloading, media_message, serving
from tests.site import until


def with_media(desk: Desk, **changes: Any) -> Any:
    return desk.settings.model_copy(update={"media": desk.settings.media.model_copy(update=changes)})


async def long() -> Any:
    """Without a Content-Length."""
    for _ in range(100):
        yield JPEG * 10


BROKEN = {
    "length_mismatch": CutResponse(JPEG[:100], len(JPEG)),
    "empty": Response(b""),
    "hash_mismatch": Response(JPEG[:-1] + b"x"),
    "http_error": Response(status_code=500),
    "encoded": Response(JPEG, headers={"content-encoding": "gzip"}),
    "too_many_redirects": RedirectResponse("/api/files/default/A1.jpeg", 302),
    "redirect_refused": RedirectResponse("http://169.254.169.254/latest/meta-data/", 302),
}


@pytest.mark.parametrize("reason", BROKEN)
async def test_a_file_that_stays_broken_fails_with_its_reason(media_desk: Desk, files: Files, reason: str) -> None:
    """Once more from the same place, then WAHA is asked for the file again, which is no better."""
    url = files.add("A1.jpeg", JPEG)
    files.answer = lambda _: BROKEN[reason]

    async def ask(source: str, session: str, chat: str, message_id: str) -> Place | None:
        return Place(url)

    await media_desk.told(media_message("A1", url, sha256=digest(JPEG)))
    async with downloading(media_desk, ask):
        job = (await media_desk.settled())["A1"]
    assert (job["download_status"], job["reason"]) == ("failed", reason)
    assert await media_desk.keys() == []


async def test_a_file_that_is_broken_once_is_stored(media_desk: Desk, files: Files) -> None:
    answers = iter([BROKEN["length_mismatch"], BROKEN["empty"]])
    files.answer = lambda _: next(answers, None)
    await media_desk.told(media_message("A1", files.add("A1.jpeg", JPEG), sha256=digest(JPEG)))

    async def ask(source: str, session: str, chat: str, message_id: str) -> Place | None:
        return Place(files.add("A1.jpeg", JPEG))

    async with downloading(media_desk, ask):
        assert (await media_desk.settled())["A1"]["download_status"] == "stored"


async def test_too_large_files_are_skipped(media_desk: Desk, files: Files) -> None:
    settings = with_media(media_desk, max_bytes=10_000, type_max_bytes={"sticker": 0, "video": 500})
    files.answer = lambda r: StreamingResponse(long()) if r.url.path.endswith("A3.jpeg") else None
    await media_desk.told(
        media_message("A1", files.add("A1.jpeg", JPEG * 100)),
        media_message("A2", files.add("A2.jpeg", JPEG), size=10_001),
        media_message("A3", files.add("A3.jpeg", b"")),
        media_message("A4", files.add("A4.webp", JPEG), kind="sticker"),
        media_message("A5", files.add("A5.mp4", JPEG * 20), kind="video"),
        media_message("A6", files.add("A6.jpeg", JPEG * 20)),
    )
    async with downloading(media_desk, settings=settings):
        jobs = await media_desk.settled()
    assert {raw_id: (j["download_status"], j["reason"]) for raw_id, j in jobs.items()} == {
        "A1": ("skipped", "too_large"), "A2": ("skipped", "too_large"), "A3": ("skipped", "too_large"),
        "A4": ("skipped", "type_off"), "A5": ("skipped", "too_large"), "A6": ("stored", None),
    }  # fmt: skip
    assert "/api/files/default/A2.jpeg" not in files.asked
    assert "/api/files/default/A4.webp" not in files.asked


async def test_only_the_configured_places_are_asked_and_only_waha_gets_its_key(media_desk: Desk, files: Files) -> None:
    async with serving() as store, serving() as stranger:
        store.files["/bucket/A1.jpeg"] = stranger.files["/bucket/A2.jpeg"] = JPEG
        stranger.add("A3.jpeg", b"not this one")
        files.add("A3.jpeg", JPEG)
        settings = with_media(media_desk, origins=store.base_url)
        await media_desk.told(
            media_message("A1", f"{store.base_url}/bucket/A1.jpeg?X-Amz-Signature=abc"),
            media_message("A2", f"{stranger.base_url}/bucket/A2.jpeg?X-Amz-Signature=abc"),
            media_message("A3", f"{stranger.base_url}/api/files/default/A3.jpeg"),  # WAHA's own path: asked of WAHA
            media_message("A4", "file:///etc/passwd"),
            media_message("A5", f"http://user:secret@{store.base_url.removeprefix('http://')}/bucket/A1.jpeg"),
            media_message("A6", files.base_url + "/api/sessions"),
            media_message("A7", files.base_url + "/api/files/../sessions"),
        )
        async with downloading(media_desk, settings=settings):
            jobs = await media_desk.settled()
        assert {raw_id: (j["download_status"], j["reason"]) for raw_id, j in jobs.items()} == {
            "A1": ("stored", None), "A2": ("failed", "origin_refused"), "A3": ("stored", None),
            "A4": ("failed", "scheme_refused"), "A5": ("failed", "credentials_in_url"),
            "A6": ("failed", "origin_refused"), "A7": ("failed", "origin_refused"),
        }  # fmt: skip
        assert store.keys == [None]
        assert not stranger.asked
        assert set(files.asked) == {"/api/files/default/A3.jpeg"}


async def test_a_redirect_inside_waha_is_followed(media_desk: Desk, files: Files) -> None:
    files.add("new.jpeg", JPEG)

    def answer(request: Request) -> Response | None:
        return RedirectResponse("/api/files/default/new.jpeg") if request.url.path.endswith("A1.jpeg") else None

    files.answer = answer
    await media_desk.told(media_message("A1", files.add("A1.jpeg", b"")))
    async with downloading(media_desk):
        assert (await media_desk.settled())["A1"]["download_status"] == "stored"


async def test_a_slow_file_blocks_no_other(media_desk: Desk, files: Files) -> None:
    release = asyncio.Event()

    async def slow() -> Any:
        yield JPEG[:10]
        await release.wait()
        yield JPEG[10:]

    files.answer = lambda r: StreamingResponse(slow()) if "slow" in r.url.path else None
    await media_desk.told(
        media_message("S1", files.add("slow1.jpeg", b"")), media_message("S2", files.add("slow2.jpeg", b""))
    )
    await media_desk.told(*(media_message(f"A{n}", files.add(f"A{n}.jpeg", JPEG)) for n in range(20)), *(
        media_message(f"N{n}", None) for n in range(20)))  # fmt: skip
    hanging = asyncio.Event()

    async def ask(source: str, session: str, chat: str, message_id: str) -> Place | None:
        await hanging.wait()
        return None

    async with downloading(media_desk, ask, settings=with_media(media_desk, concurrency=6, ask_times=1)):

        async def fast() -> bool | None:
            jobs = await media_desk.jobs()
            return True if all(jobs[f"A{n}"]["download_status"] == "stored" for n in range(20)) else None

        await until(fast, "the files that are not slow")
        release.set()
        hanging.set()
        await media_desk.settled()


SCANNER = "import sys; sys.exit(1 if b'EICAR' in sys.stdin.buffer.read() else 0)"


async def test_a_scanner_decides(media_desk: Desk, files: Files) -> None:
    large = b"y" * 6_000_000 + b"EICAR" + b"y" * 6_000_000
    settings = with_media(media_desk, scan_command=f'{sys.executable} -c "{SCANNER}"')
    await media_desk.told(
        media_message("A1", files.add("A1.jpeg", JPEG)),
        media_message("A2", files.add("A2.jpeg", b"EICAR")),
        media_message("A3", files.add("A3.mp4", large), kind="video"),
    )
    async with downloading(media_desk, settings=settings):
        jobs = await media_desk.settled()
    assert {raw_id: j["reason"] for raw_id, j in jobs.items()} == {"A1": None, "A2": "quarantined", "A3": "quarantined"}
    assert len(await media_desk.keys()) == 1


async def test_a_scanner_that_is_broken_lets_nothing_through(media_desk: Desk, files: Files) -> None:
    settings = with_media(media_desk, scan_command="/bin/false-that-is-not-there")
    await media_desk.told(media_message("A1", files.add("A1.jpeg", JPEG)))
    async with downloading(media_desk, settings=settings):

        async def told() -> bool | None:
            return True if "scanner" in ((await media_desk.jobs())["A1"]["last_error"] or "") else None

        await until(told, "the job to say that the scanner is away")
    assert (await media_desk.jobs())["A1"]["download_status"] == "pending"
    assert await media_desk.keys() == []


def bomb() -> bytes:
    """A PNG of 30,000 by 30,000 black pixels in under a megabyte."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    side = 30_000
    header = side.to_bytes(4, "big") * 2 + b"\x08\x00\x00\x00\x00"
    rows = zlib.compress(bytes((side + 1) * 100), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


async def test_thumbnails_of_what_can_be_decoded(media_desk: Desk, files: Files) -> None:
    """A PDF can where the extra `previews` is installed (its unit tests say when it is not)."""
    out, page = io.BytesIO(), io.BytesIO()
    Image.new("RGBA", (1000, 500), (255, 0, 0, 10)).save(out, "PNG")
    Image.new("RGB", (1000, 500), "red").save(page, "PDF")
    pictures = {
        "P1": out.getvalue(),
        "P2": bomb(),
        "P3": JPEG[:50] + base64.b64encode(JPEG),
        "P4": b"OggS\x00\x02 no picture",
        "P5": page.getvalue(),
    }
    await media_desk.told(*(media_message(raw_id, files.add(raw_id, data)) for raw_id, data in pictures.items()))
    async with downloading(media_desk, settings=with_media(media_desk, thumbnails=True, thumbnail_pixels=100)):
        await media_desk.settled()
        await media_desk.thumbnails_settled()
    rows = await media_desk.pool.fetch("SELECT sha256, thumbnail FROM whatsapp_gateway.media_objects")
    states = {row["sha256"]: row["thumbnail"] for row in rows}
    made = ["P1", "P5"] if "application/pdf" in decoded_types() else ["P1"]
    odd = {"P2": "refused", "P3": "refused"}
    assert {raw_id: states[digest(data)] for raw_id, data in pictures.items()} == {
        **dict.fromkeys(pictures), **odd, **dict.fromkeys(made, "made")
    }  # fmt: skip
    assert set(await media_desk.keys("thumbnails/")) == {thumbnail_key(digest(pictures[raw_id])) for raw_id in made}
    for raw_id in made:
        async with media_desk.bucket.read(thumbnail_key(digest(pictures[raw_id]))) as opened:
            small = Image.open(io.BytesIO(b"".join([chunk async for chunk in opened.chunks])))
        assert (small.format, small.size) == ("JPEG", (100, 50))


async def test_an_address_that_nobody_may_have_is_refused_at_connect(media_desk: Desk, files: Files) -> None:
    """A cloud's metadata, as a number that no resolver sees; and a name that was public once and is loopback now."""
    await media_desk.told(media_message("A1", files.add("A1.jpeg", JPEG)))
    waha = media_desk.settings.waha.model_copy(update={"url": "http://169.254.169.254"})
    async with downloading(media_desk, settings=media_desk.settings.model_copy(update={"waha": waha})):
        job = (await media_desk.settled())["A1"]
    assert (job["download_status"], job["reason"]) == ("failed", "address_refused")
    addresses, guard = Addresses(), Guard(files.base_url.replace("127.0.0.1", "localhost"))
    addresses.check("localhost", "93.184.216.34")
    async with Fetcher(connections=1, timeout_s=10, addresses=addresses) as fetcher:
        with pytest.raises(OriginRefusedError, match="address_refused"):
            async with fetcher.get(guard, files.add("A1.jpeg", JPEG), "key"):
                pass
    assert not files.asked


async def test_files_of_a_waha_that_is_not_configured_are_failed(media_desk: Desk, files: Files) -> None:
    await media_desk.told(media_message("A1", files.add("A1.jpeg", JPEG)))
    await media_desk.pool.execute("UPDATE whatsapp_gateway.media_downloads SET source = 'berlin'")
    async with downloading(media_desk):
        job = (await media_desk.settled())["A1"]
    assert (job["download_status"], job["reason"]) == ("failed", "unknown_source")
