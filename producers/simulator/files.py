"""The files of simulated messages: real bytes of their type, made from the message's raw id and nothing else.

So whoever serves a file needs no list of messages, and a payload can say its true length and SHA-256. Pictures really decode
(stickers and JPEGs), documents open, audio and video begin as their formats do.
"""

from __future__ import annotations

import hashlib
import zlib
from functools import lru_cache

from producers.simulator.facts import MEDIA_TYPES, Kind

KIND_BY_EXTENSION: dict[str, Kind] = {extension: kind for kind, (_, extension) in MEDIA_TYPES.items()}

_SMALLEST, _SPREAD = 2_000, 60_000  # bytes: small, so that traffic costs little
_SIDE = 4  # blocks of a picture, each of 8 by 8 pixels
# A 1x1 lossless WebP.
_WEBP = bytes.fromhex("524946461a000000574542505650384c0d0000002f00000010071011118888fe0700")
_FTYP_MP4 = b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom"
_FTYP_M4A = b"\x00\x00\x00\x18ftypM4A \x00\x00\x00\x00M4A mp42"


@lru_cache(maxsize=256)
def file_of(raw_id: str, kind: Kind) -> bytes:
    """The file of the message `raw_id`."""
    seed = hashlib.sha256(f"{kind} {raw_id}".encode()).digest()
    size = _SMALLEST + int.from_bytes(seed[:4], "big") % _SPREAD
    filler = (seed * (size // len(seed) + 1))[:size]
    match kind:
        case "image":
            return _jpeg(seed, filler)
        case "sticker":
            return _webp(filler)
        case "document":
            return _pdf(seed)
        case "voice":
            return b"OggS\x00\x02" + bytes(20) + b"\x01\x13OpusHead\x01\x01" + filler
        case "audio":
            return _FTYP_M4A + _box(b"free", filler)
        case _:
            return _FTYP_MP4 + _box(b"free", filler)


@lru_cache(maxsize=4096)
def digest_of(raw_id: str, kind: Kind) -> tuple[int, bytes]:
    """Length and SHA-256 of the file."""
    data = file_of(raw_id, kind)
    return len(data), hashlib.sha256(data).digest()


def sound_of(raw_id: str, kind: Kind) -> tuple[int, bytes]:
    """Seconds, and the 64 heights from 0 to 100 that WhatsApp draws of a voice note."""
    size, digest = digest_of(raw_id, kind)
    return 3 + size % 60, bytes(byte % 101 for byte in digest * 2)


def _box(name: bytes, data: bytes) -> bytes:
    return (len(data) + 8).to_bytes(4, "big") + name + data


def _webp(filler: bytes) -> bytes:
    """The image and, after it, a chunk that decoders pass over."""
    filler = filler[: len(filler) & ~1]
    extra = b"fill" + len(filler).to_bytes(4, "little") + filler
    body = _WEBP[8:] + extra
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def _pdf(seed: bytes) -> bytes:
    """One empty page; the seed makes it unlike others."""
    parts = (
        b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]>>",
    )  # fmt: skip
    out, offsets = b"%PDF-1.4\n%" + seed.hex().encode() * 40 + b"\n", []
    for number, part in enumerate(parts, start=1):
        offsets.append(len(out))
        out += b"%d 0 obj%s\nendobj\n" % (number, part)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    return out + b"xref\n0 4\n0000000000 65535 f \n%strailer<</Size 4/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (
        table, len(out),
    )  # fmt: skip


# ---- a JPEG of coloured blocks: baseline, no subsampling, of each 8x8 block only its mean
_SEGMENT = 65_000
_QUANT = 8  # a block's mean is its DC coefficient divided by 8


def _segment(marker: int, data: bytes) -> bytes:
    return bytes((0xFF, marker)) + (len(data) + 2).to_bytes(2, "big") + data


def _jpeg(seed: bytes, filler: bytes) -> bytes:
    side = (_SIDE * 8).to_bytes(2, "big")
    components = b"\x01\x11\x00\x02\x11\x00\x03\x11\x00"
    dc = b"\x00" + bytes((0, 0, 0, 12)) + bytes(12) + bytes(range(12))  # category n has the 4-bit code n
    ac = b"\x10" + bytes((1,)) + bytes(15) + b"\x00"  # the only symbol: end of block
    return b"".join(
        (
            b"\xff\xd8",
            _segment(0xE0, b"JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"),
            *(_segment(0xFE, filler[at : at + _SEGMENT]) for at in range(0, len(filler), _SEGMENT)),
            _segment(0xDB, b"\x00" + bytes((_QUANT,)) * 64),
            _segment(0xC0, b"\x08" + side + side + b"\x03" + components),
            _segment(0xC4, dc),
            _segment(0xC4, ac),
            _segment(0xDA, b"\x03\x01\x00\x02\x00\x03\x00\x00\x3f\x00"),
            _scan(seed),
            b"\xff\xd9",
        )
    )


def _scan(seed: bytes) -> bytes:
    """A picture that is the same left and right, in colours by the seed, so that people tell pictures apart."""
    bits, last = [], [0, 0, 0]
    for row in range(_SIDE):
        for column in range(_SIDE):
            at = row * _SIDE // 2 + min(column, _SIDE - 1 - column)
            shade = zlib.crc32(bytes((at,)) + seed)
            for n, level in enumerate((60 + shade % 160, seed[0] // 2 + 64, seed[1] // 2 + 64)):
                value = level - 128
                bits.append(_dc(value - last[n]) + "0")
                last[n] = value
    text = "".join(bits)
    text += "1" * (-len(text) % 8)
    data = int(text, 2).to_bytes(len(text) // 8, "big")
    return data.replace(b"\xff", b"\xff\x00")


def _dc(difference: int) -> str:
    """Category in 4 bits, then the value; negative ones as ones' complement."""
    size = abs(difference).bit_length()
    if not size:
        return "0000"
    value = difference if difference > 0 else difference + (1 << size) - 1
    return f"{size:04b}{value:0{size}b}"
