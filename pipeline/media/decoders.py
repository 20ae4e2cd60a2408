"""The first frame of a video and the first page of a PDF as pictures, where the extra `previews` is installed.

Runs in the limited process of picture.py: FFmpeg and PDFium read what comes from strangers. FFmpeg gets the container that
the bytes were taken for and the codecs of phones, nothing else: no playlist, no other file, no address.
"""

from __future__ import annotations

import io
from importlib.util import find_spec

from PIL import Image

_CONTAINERS = {"video/mp4": "mp4", "video/3gpp": "mp4", "video/quicktime": "mp4", "video/webm": "webm"}
_PDF = "application/pdf"
_CODECS = frozenset({"h263", "h264", "hevc", "mpeg4", "vp8", "vp9", "av1"})
_DECODERS = ",".join(sorted(_CODECS | {"libdav1d"}))
_MAX_FRAME_PIXELS = 4096 * 2304  # of which a decoder holds up to seventeen


class UndecodableError(ValueError):
    """There is no first frame, or no first page."""


def decoded_types() -> frozenset[str]:
    """The MIME types that can be decoded here."""
    videos = frozenset(_CONTAINERS) if find_spec("av") else frozenset[str]()
    return videos | {_PDF} if find_spec("pypdfium2") else videos


def decode(data: bytes, mimetype: str | None, pixels: int) -> Image.Image | None:
    """None for what is neither a video nor a PDF, or not to be decoded here. A page is at most `pixels` wide and high.
    Raises UndecodableError."""
    if mimetype not in decoded_types():
        return None
    return _first_page(data, pixels) if mimetype == _PDF else _first_frame(data, _CONTAINERS[str(mimetype)])


def _first_frame(data: bytes, container: str) -> Image.Image:
    import av  # noqa: PLC0415 - optional

    try:
        with av.open(io.BytesIO(data), format=container, options={"codec_whitelist": _DECODERS}) as opened:
            stream = opened.streams.video[0]
            decoder = stream.codec_context
            if decoder.codec.canonical_name not in _CODECS or decoder.width * decoder.height > _MAX_FRAME_PIXELS:
                raise UndecodableError(f"{decoder.codec.canonical_name}, {decoder.width} x {decoder.height} pixels")
            decoder.thread_count = 1
            frame = next(opened.decode(stream))
            picture: Image.Image = frame.to_image()
            return picture.rotate(frame.rotation, expand=True)
    except (av.FFmpegError, IndexError, StopIteration) as exc:
        raise UndecodableError(f"{type(exc).__name__}: {exc}") from None


def _first_page(data: bytes, pixels: int) -> Image.Image:
    import pypdfium2  # noqa: PLC0415 - optional

    try:
        with pypdfium2.PdfDocument(data) as document:
            page = document[0]
            longest = max(page.get_size())
            picture: Image.Image = page.render(scale=pixels / max(longest, 1.0), may_draw_forms=False).to_pil()
            return picture.copy()
    except (pypdfium2.PdfiumError, IndexError) as exc:
        raise UndecodableError(f"{type(exc).__name__}: {exc}") from None
