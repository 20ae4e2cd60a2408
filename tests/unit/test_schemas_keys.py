"""Keys of messages: what tells two apart, what holds a raw id's authors together, and that PostgreSQL could make them."""

from __future__ import annotations

from hashlib import sha256
from itertools import combinations

from schemas.keys import ME, PEER, key_range, message_key

ANA, LID = "5511988887777@c.us", "123456789012345@lid"
AUTHORS = (ME, PEER, None, ANA, LID)


def test_a_key_is_16_bytes_and_depends_on_all_it_is_made_of() -> None:
    keys = [message_key(k, a, raw) for k in (b"a" * 32, b"b" * 32) for a in AUTHORS for raw in ("3EB0", "3eb0", "")]
    assert {len(k) for k in keys} == {16}
    assert all(a != b for a, b in combinations(keys, 2))


def test_a_key_never_changes() -> None:
    """Stored keys live as long as the installation: a change of the recipe would double every message."""
    assert message_key(b"k" * 32, LID, "3EB0A1").hex() == "002b68df8958b7868f96a3ea2701be0a"
    assert message_key(b"k" * 32, ME, "3EB0A1").hex() == "002b68df8958b7868f96000000000001"
    assert message_key(b"k" * 32, PEER, "3EB0A1").hex() == "002b68df8958b7868f96000000000002"
    assert message_key(b"k" * 32, None, "3EB0A1").hex() == "002b68df8958b7868f96000000000000"


def test_the_recipe_is_what_the_database_can_compute() -> None:
    """substring(sha256(hash_key || '\\x00' || convert_to(raw_id, 'UTF8')) for 10), and the author likewise after \\x01."""
    key = b"k" * 32
    raw = sha256(key + b"\x00" + b"3EB0A1").digest()[:10]
    author = sha256(key + b"\x01" + LID.encode()).digest()[:6]
    assert message_key(key, LID, "3EB0A1") == raw + bytes((author[0] | 0x80,)) + author[1:]


def test_all_authors_of_a_raw_id_are_one_range_and_nobody_else_is() -> None:
    key = b"k" * 32
    low, high = key_range(message_key(key, ANA, "3EB0A1"))
    assert all(low <= message_key(key, author, "3EB0A1") <= high for author in AUTHORS)
    others = [message_key(key, author, raw) for author in AUTHORS for raw in ("3EB0A2", "3eb0a1", "3EB0A", "")]
    assert not any(low <= other <= high for other in others)


def test_parts_of_a_key_cannot_run_into_each_other() -> None:
    key = b"k" * 32
    assert message_key(key, "a", "bc") != message_key(key, "ab", "c")


def test_a_key_takes_any_text() -> None:
    assert len(message_key(b"k" * 32, "\ud83d", "\x00" * 5000)) == 16
