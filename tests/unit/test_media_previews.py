"""Thumbnails of videos and PDFs: made by real decoders from files that are made here, refused when they are odd."""

from __future__ import annotations

import io
from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

import pytest
from PIL import Image

from pipeline.media import decoders
from pipeline.media.kinds import THUMBNAIL_TYPES
from pipeline.media.picture import UnusablePictureError, shrink
from tests.stack import NOT_COVERED

_UNTURNED = b"".join(n.to_bytes(4, "big") for n in (0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000))
_QUARTER = b"".join(n.to_bytes(4, "big") for n in (0, 0x10000, 0, 0xFFFF0000, 0, 0, 0, 0, 0x40000000))

if not (find_spec("av") and find_spec("pypdfium2")):
    NOT_COVERED.append("thumbnails of videos and PDFs: pip install 'wapipe[previews]'")
    pytest.skip("the extra `previews` is not installed", allow_module_level=True)


def halves(size: tuple[int, int] = (320, 160)) -> Image.Image:
    """Red on the left, blue on the right."""
    picture = Image.new("RGB", size, "red")
    picture.paste("blue", (size[0] // 2, 0, *size))
    return picture


def video(*pictures: Image.Image, codec: str = "mpeg4", container: str = "mp4", sound: bool = False) -> bytes:
    """These frames."""
    import av

    out = io.BytesIO()
    with av.open(out, "w", format=container) as opened:
        stream: Any = opened.add_stream(codec, rate=5)
        stream.width, stream.height = pictures[0].size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        streams = [stream]
        if sound:
            streams.append(opened.add_stream("aac", rate=44_100))
        packets: Iterable[Any] = [p for picture in pictures for p in stream.encode(av.VideoFrame.from_image(picture))]
        for packet in [*packets, *(p for s in streams for p in s.encode(None))]:
            opened.mux(packet)
    return out.getvalue()


def page(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PDF")
    return out.getvalue()


def colours(data: bytes, *at: tuple[int, int]) -> list[str]:
    """Red or blue."""
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    return ["red" if picture.getpixel(place) > (128, 0, 0) else "blue" for place in at]  # type: ignore[operator] # three numbers


@pytest.mark.parametrize(
    ("codec", "container", "sound"), [("mpeg4", "mp4", False), ("mpeg4", "mp4", True), ("libvpx", "webm", False)]
)
def test_the_first_frame_of_a_video(codec: str, container: str, sound: bool) -> None:
    data = video(halves(), Image.new("RGB", (320, 160), "white"), codec=codec, container=container, sound=sound)
    small = shrink(data, 100)
    assert Image.open(io.BytesIO(small)).size == (100, 50)
    assert colours(small, (10, 25), (90, 25)) == ["red", "blue"]


def test_a_video_that_was_taken_upright_is_upright() -> None:
    """A phone turns the picture by a matrix of the container."""
    data = video(halves())
    tracks = data.index(b"tkhd")
    turned = data[:tracks] + data[tracks:].replace(_UNTURNED, _QUARTER, 1)
    assert turned != data
    small = shrink(turned, 100)
    assert Image.open(io.BytesIO(small)).size == (50, 100)
    assert colours(small, (25, 10), (25, 90)) == ["red", "blue"]


def test_the_first_page_of_a_pdf() -> None:
    small = shrink(page(halves()), 100)
    assert Image.open(io.BytesIO(small)).size == (100, 50)
    assert colours(small, (10, 25), (90, 25)) == ["red", "blue"]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(video(halves())[:300], id="the begin of a video"),
        pytest.param(video(halves(), codec="mjpeg"), id="a codec that no phone uses"),
        pytest.param(video(Image.new("L", (4112, 2320)).convert("RGB")), id="a huge frame"),
        pytest.param(b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom" + b"#EXTM3U\nfile:///etc/passwd\n", id="a playlist"),
        pytest.param(page(halves())[:100], id="the begin of a PDF"),
        pytest.param(b"%PDF-1.4 nothing", id="no PDF"),
    ],
)  # fmt: skip
def test_what_cannot_be_decoded_is_refused(data: bytes) -> None:
    with pytest.raises(UnusablePictureError):
        shrink(data, 100)


def test_without_the_decoders_no_thumbnail_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert decoders.decoded_types() == {"video/mp4", "video/3gpp", "video/quicktime", "video/webm", "application/pdf"}
    assert not decoders.decoded_types() & THUMBNAIL_TYPES
    monkeypatch.setattr(decoders, "find_spec", lambda _: None)
    assert decoders.decoded_types() == frozenset()
    with pytest.raises(UnusablePictureError):
        shrink(video(halves()), 100)
