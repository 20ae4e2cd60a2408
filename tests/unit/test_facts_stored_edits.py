"""Edits that WAHA's store shows: which rows are marked, and what is shown whatever a webhook told of them, in any order."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from schemas.facts import EditFact, Fact, RankedContent, RevokeFact
from schemas.keys import PEER
from schemas.law import merge, read
from schemas.law.view import Message
from tests.unit.told import ANA, AT, GROUP, jid, tell

AT_S = AT // 1000
EDITED = AT + 60_700
KEY = {"fromMe": False, "remote": ANA, "id": "E1", "_serialized": f"false_{ANA}_E1"}


def row(body: str | None, data: dict[str, Any], engine: str, *, at_s: int = AT_S, **payload: Any) -> list[Fact]:
    """A message of Ana as REST shows it."""
    return tell("message.any", {"id": f"false_{ANA}_A1", "timestamp": at_s, "from": ANA, "body": body, "_data": data}
                | payload, engine, id="sync_1", timestamp=AT)  # fmt: skip


def fetched(text: str, at_ms: int = EDITED, engine: str = "NOWEB") -> list[Fact]:
    """A row that was edited to this text."""
    if engine == "NOWEB":
        content = {"extendedTextMessage": {"text": text}}
        data = {"key": {"id": "A1"}, "message": {"editedMessage": {"message": content}}}
        return row(text, data, engine, at_s=at_ms // 1000)
    return row(text, {"type": "chat", "latestEditMsgKey": KEY, "latestEditSenderTimestampMs": at_ms}, engine)


def written(text: str = "one") -> list[Fact]:
    """The message as its webhook told it."""
    return tell("message.any", {"id": f"false_{ANA}_A1", "timestamp": AT_S, "from": ANA, "body": text,
                                "_data": {"key": {"id": "A1"}, "message": {"conversation": text}}}, id="evt_0")  # fmt: skip


def edited(text: str, at_ms: int = EDITED, engine: str = "NOWEB", event_id: str = "evt_5") -> list[Fact]:
    """message.edited as the engine posts it."""
    data: dict[str, Any] = {"message": {}, "newBody": text}
    id_ = f"false_{ANA}_A1"
    if engine == "NOWEB":
        protocol = {"key": {"id": "A1"}, "type": 14, "editedMessage": {"conversation": text}, "timestampMs": str(at_ms)}
        id_, data = f"false_{ANA}_E{event_id}", {"message": {"protocolMessage": protocol}}
    payload = {"id": id_, "timestamp": AT_S, "from": ANA, "body": text, "editedMessageId": "A1", "_data": data}
    return tell("message.edited", payload, engine, id=event_id, timestamp=at_ms + 200)


def edits(facts: list[Fact]) -> list[tuple[str | None, int]]:
    return [(f.text, f.at_ms - AT) for f in facts if isinstance(f, EditFact)]


def shown(*parts: list[Fact]) -> list[tuple[str | None, list[tuple[str | None, int]]]]:
    """Text and history of the only message; the same in any order of the events."""
    found = {repr(said): said for order in permutations(parts) if (said := _said(order))}
    return list(found.values())


def _said(parts: tuple[list[Fact], ...]) -> tuple[str | None, list[tuple[str | None, int]]]:
    message: Message
    (message,) = read(merge(fact for facts in (*parts, parts[0]) for fact in facts)).messages.values()
    return message.text, edits(list(message.edits))


def test_a_marked_row_is_content_and_an_edit() -> None:
    for engine in ("WEBJS", "WPP"):
        assert edits(fetched("two", engine=engine)) == [("two", 60_700)]
    facts = fetched("two")
    assert edits(facts) == [("two", 60_000)]  # NOWEB's store keeps seconds
    assert [(f.content.body, f.content.type) for f in facts if isinstance(f, RankedContent)] == [("two", "text")]


@pytest.mark.parametrize(
    ("data", "engine"),
    [
        ({"type": "chat"}, "WEBJS"),
        ({"type": "chat", "latestEditMsgKey": None, "latestEditSenderTimestampMs": None}, "WEBJS"),
        ({"type": "chat", "latestEditMsgKey": None, "latestEditSenderTimestampMs": None}, "WPP"),
        ({"key": {"id": "A1"}, "message": {"conversation": "one"}}, "NOWEB"),
        ({"Info": {"ID": "A1"}, "Message": {"conversation": "one"}, "IsEdit": False}, "GOWS"),
    ],
)
def test_a_row_without_a_mark_is_no_edit(data: dict[str, Any], engine: str) -> None:
    assert edits(row("one", data, engine)) == []


def test_a_mark_without_a_time_counts_from_the_message_on() -> None:
    assert edits(row("two", {"type": "chat", "latestEditMsgKey": KEY}, "WEBJS")) == [("two", 0)]
    assert edits(
        row("two", {"type": "chat", "latestEditMsgKey": "E1", "latestEditSenderTimestampMs": "soon"}, "WPP")
    ) == [("two", 0)]


def test_a_caption_and_a_group() -> None:
    message = {"editedMessage": {"message": {"imageMessage": {"caption": "two", "mimetype": "image/jpeg"}}}}
    facts = tell("message.any", {"id": f"false_{GROUP}_A1_{ANA}", "timestamp": AT_S + 60, "from": GROUP, "body": "two",
                                 "participant": ANA, "hasMedia": True, "media": None,
                                 "_data": {"key": {"id": "A1", "participant": jid(ANA)}, "message": message}})  # fmt: skip
    (edit,) = [f for f in facts if isinstance(f, EditFact)]
    (content,) = [f for f in facts if isinstance(f, RankedContent)]
    assert (edit.chat, edit.author, edit.raw_id, edit.text) == (GROUP, ANA, "A1", "two")
    assert (content.content.type, content.content.body) == ("image", "two")


def test_nothing_to_show_is_no_edit() -> None:
    assert (
        edits(row(None, {"type": "chat", "latestEditMsgKey": KEY, "latestEditSenderTimestampMs": EDITED}, "WEBJS"))
        == []
    )


@pytest.mark.parametrize("engine", ["NOWEB", "WEBJS", "WPP"])
def test_an_edit_that_no_webhook_told_is_shown(engine: str) -> None:
    ((text, history),) = shown(written(), fetched("two", engine=engine))
    assert (text, [said for said, _ in history]) == ("two", ["two"])


@pytest.mark.parametrize("engine", ["NOWEB", "WEBJS"])
def test_what_a_webhook_told_too_is_one_edit(engine: str) -> None:
    ((text, history),) = shown(written(), edited("two", engine=engine), fetched("two", engine=engine))
    assert (text, [said for said, _ in history]) == ("two", ["two"])
    assert history[0][1] == (60_700 if engine == "NOWEB" else 60_900)  # the webhook's


@pytest.mark.parametrize("engine", ["NOWEB", "WEBJS"])
def test_a_later_edit_wins_wherever_it_was_seen(engine: str) -> None:
    later = EDITED + 20_000
    for parts in (
        (edited("two", engine=engine), fetched("three", later, engine)),
        (fetched("two", engine=engine), edited("three", later, engine)),
        (fetched("two", engine=engine), fetched("three", later, engine)),
    ):
        ((text, history),) = shown(written(), *parts)
        assert (text, [said for said, _ in history]) == ("three", ["two", "three"])


def test_back_to_the_first_text() -> None:
    ((text, history),) = shown(written("one"), edited("two"), fetched("one", EDITED + 20_000))
    assert (text, [said for said, _ in history]) == ("one", ["two", "one"])


def test_an_older_store_takes_no_newer_edit_back() -> None:
    """GOWS keeps the first text for ever; any engine's page may be older than the webhook."""
    old = row("one", {"Info": {"ID": "A1"}, "Message": {"conversation": "one"}}, "GOWS")
    assert [text for text, _ in shown(written(), edited("two"), old)] == ["two"]


def test_one_that_could_not_be_decrypted_is_read_from_the_store() -> None:
    unreadable = edited("", engine="WEBJS")
    assert [text for text, _ in shown(written(), unreadable, fetched("two", engine="WEBJS"))] == ["two"]


@pytest.mark.parametrize("engine", ["WEBJS", "WPP"])
def test_a_row_that_shows_that_it_was_taken_back_is_a_tombstone(engine: str) -> None:
    facts = row("", {"type": "revoked", "latestEditMsgKey": KEY, "latestEditSenderTimestampMs": EDITED}, engine)
    assert [(f.author, f.raw_id) for f in facts if isinstance(f, RevokeFact)] == [(PEER, "A1")]
    assert edits(facts) == []
    (message,) = read(merge([*written(), *edited("two"), *facts])).messages.values()
    assert (message.revoked_by, message.text) == (ANA, "two")
