"""What a file is: by its first bytes, not by what somebody says. And what may be said of it in an HTTP header."""

from __future__ import annotations

import unicodedata
from urllib.parse import quote

import filetype

HEAD_BYTES = 8192  # filetype looks at no more
THUMBNAIL_TYPES = frozenset({"image/jpeg", "image/png", "image/webp", "image/gif"})
# What a browser may show without being able to run it. All else is a download.
_INLINE = frozenset({
    "image/jpeg", "image/png", "image/webp", "image/gif", "video/mp4", "video/webm", "video/3gpp", "audio/ogg",
    "audio/mpeg", "audio/mp4", "audio/aac", "audio/amr", "audio/x-wav",
})  # fmt: skip
_MAX_NAME_CHARS = 150
_SPARED = '"\\/:*?<>|%;'  # what a shell, Windows or a header would take for something else


def sniff(head: bytes) -> tuple[str, str] | None:
    """(MIME type, extension) of a file that begins so; None when nothing is known of it (texts have no such mark)."""
    found = filetype.guess(head[:HEAD_BYTES])
    return (found.mime, found.extension) if found is not None else None


def served_type(sniffed: str | None) -> str:
    """The Content-Type to serve: one that no browser runs."""
    return sniffed if sniffed in _INLINE or sniffed == "application/pdf" else "application/octet-stream"


def disposition(sniffed: str | None, name: str) -> str:
    """Content-Disposition (RFC 6266): shown only when it is a harmless type."""
    how = "inline" if sniffed in _INLINE else "attachment"
    plain = "".join(c if c.isascii() else "_" for c in name)
    return f"{how}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def file_name(claimed: str | None, extension: str | None, fallback: str) -> str:
    """A name to save the file under. The last part of what was claimed, without controls and direction marks, never
    hidden, with the extension that its bytes deserve."""
    last = (claimed or "").replace("\\", "/").rpartition("/")[2]
    clean = "".join("_" if c in _SPARED else c for c in unicodedata.normalize("NFC", last)
                    if unicodedata.category(c)[0] != "C")  # fmt: skip
    stem = clean.strip(" .")[:_MAX_NAME_CHARS]
    if not stem:
        stem = fallback
    if extension is None or stem.lower().endswith(f".{extension}"):
        return stem
    _, dot, claimed_extension = stem.rpartition(".")
    if dot and _ALIASES.get(claimed_extension.lower()) == extension:
        return stem
    return f"{stem}.{extension}"


_ALIASES = {"jpeg": "jpg", "oga": "ogg", "opus": "ogg", "m4v": "mp4", "3gp": "mp4", "tiff": "tif"}
