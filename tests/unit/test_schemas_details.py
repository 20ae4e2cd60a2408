"""What a message has beside its text: places, polls, cards, replies, names, and how rich it is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.contents import ANA, GROUP, LID, content, message, noweb


# ---------------------------------------------------------------- details
def details(**fields: Any) -> Any:
    extra = content(message(**fields)).extra
    return json.loads(extra) if extra is not None else None


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        pytest.param({"latitude": -23.5, "longitude": 46}, {"latitude": -23.5, "longitude": 46.0}, id="numbers"),
        pytest.param({"latitude": "-23.5", "longitude": "46"}, {"latitude": -23.5, "longitude": 46.0}, id="texts"),
        pytest.param(
            {"latitude": 1, "longitude": 2, "name": "Praça", "address": "", "url": None, "description": 5,
             "thumbnail": "/9j/4AAQ"},
            {"latitude": 1.0, "longitude": 2.0, "name": "Praça"}, id="only what there is",
        ),
        pytest.param({"latitude": 1}, None, id="half a place"),
        pytest.param({"latitude": "north", "longitude": 1}, None, id="words"),
        pytest.param({}, None, id="nothing"),
    ],
)  # fmt: skip
def test_location(location: dict[str, Any], expected: dict[str, Any] | None) -> None:
    assert details(location=location) == ({"location": expected} if expected else None)


@pytest.mark.parametrize(
    ("poll", "expected"),
    [
        pytest.param(
            {"name": "Lunch?", "options": [{"optionName": "Pizza"}, {"optionName": "Sushi"}],
             "selectableOptionsCount": 1},
            {"name": "Lunch?", "options": ["Pizza", "Sushi"], "selectable": 1}, id="whole",
        ),
        pytest.param({"name": "Lunch?"}, {"name": "Lunch?", "options": [], "selectable": None}, id="no options"),
        pytest.param(
            {"name": "Q", "options": [{"optionName": ""}, {"optionName": 1}, None, "x", {"optionName": "a"}]},
            {"name": "Q", "options": ["a"], "selectable": None}, id="odd options",
        ),
        pytest.param(
            {"name": "Q", "options": {}, "selectableOptionsCount": 1e300},
            {"name": "Q", "options": [], "selectable": None}, id="absurd count",
        ),
        pytest.param(
            {"name": "Q", "selectableOptionsCount": -1}, {"name": "Q", "options": [], "selectable": None}, id="negative"
        ),
        pytest.param({"options": [{"optionName": "Pizza"}]}, None, id="no question"),
        pytest.param("Lunch?", None, id="no object"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("version", ["", "V2", "V3", "V5"])
def test_poll(poll: Any, expected: dict[str, Any] | None, version: str) -> None:
    found = details(_data=noweb(**{f"pollCreationMessage{version}": poll}))
    assert found == ({"poll": expected} if expected else None)


def test_vcards_are_texts_only() -> None:
    assert details(vCards=["a", 1, None, {}, "b"]) == {"vcards": ["a", "b"]}


@pytest.mark.parametrize(
    ("reply", "reply_to", "quoted"),
    [
        pytest.param({"id": "A0"}, "A0", None, id="raw id"),
        pytest.param({"id": f"false_{ANA}_A0"}, "A0", None, id="serialized id (WPP)"),
        pytest.param({"id": f"false_{GROUP}_A0_{LID}"}, "A0", None, id="serialized id of a group"),
        pytest.param(
            {"id": "A0", "participant": ANA, "body": "Shall we?"},
            "A0",
            {"participant": ANA, "text": "Shall we?"},
            id="with what it quotes",
        ),
        pytest.param({"body": "Shall we?"}, None, {"text": "Shall we?"}, id="no id"),
        pytest.param({"id": 5, "participant": [], "body": {}}, None, None, id="wrong types"),
        pytest.param("A0", None, None, id="no object"),
        pytest.param(None, None, None, id="null"),
    ],
)
def test_replies(reply: Any, reply_to: str | None, quoted: dict[str, Any] | None) -> None:
    fact = content(message(replyTo=reply))
    assert fact.reply_to == reply_to
    assert (json.loads(fact.extra)["quoted"] if fact.extra else None) == quoted


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ({"pushName": "Ana"}, "Ana"), ({"Info": {"PushName": "Ana"}}, "Ana"), ({"notifyName": "Ana"}, "Ana"),
        ({"pushName": "", "notifyName": "Ana"}, "Ana"), ({"pushName": None}, None), ({"Info": []}, None), ({}, None),
        (None, None), ("x", None),
    ],
    ids=repr,
)  # fmt: skip
def test_push_name_of_every_engine(data: Any, name: str | None) -> None:
    assert content(message(_data=data)).push_name == name


@pytest.mark.parametrize(
    ("fields", "poverty"),
    [
        pytest.param({"body": "hi"}, 0, id="text"),
        pytest.param({"hasMedia": True, "media": {"mimetype": "image/png"}}, 0, id="media described"),
        pytest.param(
            {"hasMedia": True, "media": {"mimetype": "image/png", "url": None}}, 0, id="media skipped by WAHA"
        ),
        pytest.param({"hasMedia": True, "media": None}, 1, id="media not described"),
        pytest.param({"hasMedia": True, "media": {"url": "x"}}, 1, id="media without a type"),
        pytest.param({}, 2, id="nothing"),
        pytest.param({"_data": {"type": "ciphertext"}}, 2, id="waiting for this message"),
        pytest.param({"_data": {"type": "ciphertext"}, "body": "hi"}, 0, id="waiting, with a text after all"),
        pytest.param({"_data": {"message": {"albumMessage": {}}}}, 0, id="an album has no more to say"),
    ],
)
def test_poverty(fields: dict[str, Any], poverty: int) -> None:
    """How little a fact says: of two facts about one message the richer one is shown."""
    assert content(message(**fields)).poverty == poverty
