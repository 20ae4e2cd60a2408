"""What was fetched as records: envelopes like WAHA's, the same for the same message."""

from __future__ import annotations

import orjson

from pipeline.sync.envelopes import Fetched, Wrapper, ids_of, keys_of
from pipeline.waha.answers import Row, SessionInfo
from schemas.facts import RankedContent
from schemas.ids import parse_message_id
from schemas.keys import ME, message_key
from schemas.normalize.events import to_facts
from schemas.normalize.head import Record
from schemas.rows import LANE_BACKFILL

INFO = SessionInfo("acme", "WORKING", "NOWEB", "49151@c.us", "77@lid", 'A "B" é', {})
WRAPPER = Wrapper("berlin", INFO, "2026.7.1")
ROW = Row(
    "false_49152@c.us_AC1",
    1_784_973_600,
    b'{"id":"false_49152@c.us_AC1","timestamp":1784973600,"body":"hi","fromMe":false}',
)


def message(row: Row, wrapper: Wrapper = WRAPPER) -> Fetched:
    [record] = wrapper.messages([row], ids_of([row]))
    return record


def test_an_envelope_as_waha_would_have_made_it() -> None:
    record = message(ROW)
    body = orjson.loads(record.value)
    assert body.pop("id").startswith("sync_")
    assert body == {
        "timestamp": 1_784_973_600_000, "event": "message.any", "session": "acme",
        "me": {"id": "49151@c.us", "pushName": 'A "B" é', "lid": "77@lid"}, "payload": orjson.loads(ROW.body),
        "engine": "NOWEB", "environment": {"version": "2026.7.1", "engine": "NOWEB"}, "wapipe": {"source": "backfill"},
    }  # fmt: skip
    headers = dict(record.headers)
    assert (headers["event"], headers["session"], headers["engine"]) == (b"message.any", b"berlin:acme", b"NOWEB")
    assert (headers["source"], headers["event-id"].decode()) == (b"berlin", orjson.loads(record.value)["id"])
    assert record.key == b"berlin:acme|49152@c.us"


def test_the_same_message_is_the_same_record_and_another_one_is_not() -> None:
    assert message(ROW).value == message(ROW).value
    other = ROW._replace(id="false_49152@c.us_AC2")
    ids = {orjson.loads(message(r, w).value)["id"] for w in (WRAPPER, Wrapper("oslo", INFO, "1")) for r in (ROW, other)}
    assert len(ids) == 4


def test_before_pairing_there_is_no_account() -> None:
    assert orjson.loads(message(ROW, Wrapper("default", INFO._replace(me=None), "1")).value)["me"] is None


def test_keys_are_those_of_the_consumer() -> None:
    """In groups the author belongs to the key; what has no readable id is passed over."""
    ids = [
        "false_49152@c.us_AC1",
        "true_49152@c.us_AC2",
        "false_1203@g.us_AC3_49153@s.whatsapp.net",
        "false_9@lid_AC4",
        "raw",
    ]
    rows = [Row(i, 5, orjson.dumps({"id": i, "timestamp": 5, "body": "x", "fromMe": i[0] == "t"})) for i in ids]
    hash_key = b"k" * 32
    found = keys_of(ids_of(rows), hash_key)
    assert len(found) == 4
    for row, (chat, key) in zip(rows, found, strict=False):
        facts = to_facts(message(row).value, Record("message.any", "berlin", 1, LANE_BACKFILL))
        content = next(f for f in facts if isinstance(f, RankedContent)).content
        parsed = parse_message_id(row.id)
        assert parsed is not None
        author = ME if content.from_me else content.key_sender
        assert (chat, key) == (content.chat, message_key(hash_key, author, content.raw_id))
