"""How a fact names the message that it is about: 16 bytes within a chat, of which the first ten stand for the raw id.

Content, acks and edits know who wrote their message; revokes and some reactions know the raw id alone. So the author is
the tail of the key: everything that is said about a raw id in a chat, whoever wrote it, is one range of a table's
(chat, key) index, and no table needs a second one. docs/merge-law.md says how a range with several authors is read.

SHA-256 with the installation's key before the text, because PostgreSQL computes the same (`sha256`): a key can be checked
and made again from the stored texts. Nobody who chooses raw ids knows the key, so nobody can aim at a collision.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _hashlib import HASH

ME = "me"  # author of own messages, and whoever acts as the session's account
PEER = ""  # author of what the other side of a direct chat (or a channel) writes, however its chat is spelled

RAW_BYTES = 10
_AUTHOR_BYTES = 6
UNKNOWN_TAIL = bytes(_AUTHOR_BYTES)
ME_TAIL = bytes(_AUTHOR_BYTES - 1) + b"\x01"
PEER_TAIL = bytes(_AUTHOR_BYTES - 1) + b"\x02"
_LAST_TAIL = b"\xff" * _AUTHOR_BYTES

_RAW, _AUTHOR = b"\x00", b"\x01"  # keep the hashes of the two parts apart


def message_key(hash_key: bytes, author: str | None, raw_id: str) -> bytes:
    """The key of the message `raw_id` by `author`: ME, PEER, a person of a group, or None when nobody says who.

    As a UUID its last group says the author: 000000000000 unknown, …01 me, …02 the peer, else a hash of the id.
    """
    hashed = _raw_hash(hash_key).copy()
    hashed.update(raw_id.encode("utf-8", "surrogatepass"))
    raw = hashed.digest()[:RAW_BYTES]
    if author == ME:
        return raw + ME_TAIL
    if author == PEER:
        return raw + PEER_TAIL
    return raw + (UNKNOWN_TAIL if author is None else author_tail(hash_key, author))


@lru_cache(maxsize=8)
def _raw_hash(hash_key: bytes) -> HASH:
    """The hash of a raw id before the id: copying it takes two thirds of beginning it anew."""
    return sha256(hash_key + _RAW)


@lru_cache(maxsize=100_000)
def author_tail(hash_key: bytes, jid: str) -> bytes:
    """Six bytes for a person; the highest bit is set, so that no hash is one of the three reserved tails."""
    digest = sha256(hash_key + _AUTHOR + jid.encode("utf-8", "surrogatepass")).digest()
    return bytes((digest[0] | 0x80,)) + digest[1:_AUTHOR_BYTES]


def key_range(key: bytes) -> tuple[bytes, bytes]:
    """The least and the greatest key of the same raw id: all authors between them."""
    return key[:RAW_BYTES] + UNKNOWN_TAIL, key[:RAW_BYTES] + _LAST_TAIL
