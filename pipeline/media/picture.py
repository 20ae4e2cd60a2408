"""A picture made small, in a process of its own: what it decodes comes from strangers. Run by thumbnails.py.

Pillow refuses what it does not know (videos and PDFs: decoders.py); a picture with more pixels than a camera has is refused
before it is decoded, and a process that takes too much memory or time is ended by the kernel.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import resource
import signal
import threading

from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.media.decoders import decode
from pipeline.media.kinds import sniff

FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
MAX_PIXELS = 50_000_000  # the largest phone cameras; 200 MB decoded
_MEMORY_BYTES = 1024**3
_SECONDS = 10
_QUALITY = 80


class UnusablePictureError(ValueError):
    """There is no thumbnail of it."""


def limit_process() -> None:
    """Once in each worker. A signal that nobody handles ends it, and so does the end of its parent, kill -9 included."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def shrink(data: bytes, pixels: int) -> bytes:
    """A JPEG with no edge longer than `pixels`, upright, without metadata. Raises UnusablePictureError."""
    signal.alarm(_SECONDS)
    try:
        return _shrink(data, pixels)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError, MemoryError) as exc:
        raise UnusablePictureError(f"{type(exc).__name__}: {exc}"[:200]) from None
    finally:
        signal.alarm(0)


def _shrink(data: bytes, pixels: int) -> bytes:
    kind = sniff(data)
    if (decoded := decode(data, kind[0] if kind else None, pixels)) is not None:
        return _to_jpeg(decoded, pixels)
    with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
        width, height = picture.size
        if width * height > MAX_PIXELS:
            raise UnusablePictureError(f"{width} x {height} pixels")
        picture.draft("RGB", (pixels, pixels))  # JPEG: decodes an eighth of it, if that is enough
        return _to_jpeg(ImageOps.exif_transpose(picture), pixels)


def _to_jpeg(picture: Image.Image, pixels: int) -> bytes:
    picture.thumbnail((pixels, pixels))
    small = picture if picture.mode in ("RGB", "L") else _on_white(picture)
    out = io.BytesIO()
    small.save(out, "JPEG", quality=_QUALITY, optimize=True)
    return out.getvalue()


def _on_white(picture: Image.Image) -> Image.Image:
    """Stickers are transparent; JPEG is not."""
    layer = picture.convert("RGBA")
    ground = Image.new("RGB", layer.size, "white")
    ground.paste(layer, mask=layer.getchannel("A"))
    return ground
