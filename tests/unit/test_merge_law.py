"""docs/merge-law.md, trust: a peer cannot change what is not his. And every section of the page is held by a test."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from schemas.facts import (
    Fact,
    GroupFact,
)
from schemas.keys import ME, PEER
from schemas.law.view import MessageId
from tests.unit import test_merge_law_chats, test_merge_law_messages
from tests.unit.law_facts import (
    ANA,
    BOB,
    GROUP,
    SECTIONS,
    S,
    T,
    ack,
    content,
    edit,
    member,
    only,
    reasons,
    revoke,
    section,
    state_of,
)


# ---------------------------------------------------------------- trust
@section("Trust")
def test_an_edit_by_another_sender_is_flagged_and_applied_to_nothing() -> None:
    state = state_of(content(chat=GROUP, author=ANA), edit("forged", author=BOB, chat=GROUP))
    assert only(state).text == "hi"
    assert reasons(state) == ["not_the_author"]
    mine = state_of(content(author=ME), edit("forged", author=PEER))
    assert (only(mine).text, reasons(mine)) == ("hi", ["not_the_author"])


@section("Trust")
def test_a_peer_cannot_take_back_my_message() -> None:
    state = state_of(content(author=ME), revoke(by=ANA, author=PEER))
    assert only(state).revoked_by is None
    assert reasons(state) == ["not_the_author"]


@section("Trust")
@pytest.mark.parametrize(
    "outside",
    [
        [member(BOB, "left", T - 1000)],
        [member(ANA, "admin", T - 1000), GroupFact(S, GROUP, "member_list", "1", T - 1000, "e")],
        [member(BOB, "admin", T - 2000), member(ANA, "admin", T - 1000), GroupFact(S, GROUP, "member_list", "1", T - 1000, "e")],
    ],
    ids=["left", "not listed", "listed no more"],
)  # fmt: skip
def test_a_revoke_by_a_non_member_is_flagged(outside: list[Fact]) -> None:
    state = state_of(content(chat=GROUP, author=ANA), revoke(by=BOB, author=None, chat=GROUP), *outside)
    assert only(state).revoked_by is None
    assert reasons(state) == ["not_a_member"]


@section("Trust")
def test_who_joins_within_the_second_of_his_revoke_is_a_member() -> None:
    """Some times are whole seconds, others milliseconds."""
    joined: list[Fact] = [member(BOB, "admin", T + 700), GroupFact(S, GROUP, "member_list", "1", T - 1000, "e")]
    assert (
        only(state_of(content(chat=GROUP, author=ANA), revoke(by=BOB, author=None, chat=GROUP), *joined)).revoked_by
        == BOB
    )


@section("Trust")
def test_somebody_elses_id_in_the_same_chat_makes_another_message() -> None:
    mine, copy = content(author=ME), content(author=PEER, body="forged", received=T + 1)
    state = state_of(mine, copy, ack(3), edit("changed", author=PEER))
    assert state.messages[MessageId(S, ANA, "A1", ME)].text == "hi"
    assert state.messages[MessageId(S, ANA, "A1", ME)].ack == 4
    assert state.messages[MessageId(S, ANA, "A1", PEER)].text == "changed"
    assert reasons(state) == ["id_reused"]


@section("Trust")
def test_somebody_elses_id_in_another_chat_makes_another_message() -> None:
    state = state_of(content(), content(chat=BOB, body="forged", received=T + 1), revoke(by=BOB, chat=BOB))
    assert state.messages[MessageId(S, ANA, "A1", PEER)].revoked_by is None
    assert state.messages[MessageId(S, BOB, "A1", PEER)].revoked_by == BOB
    assert reasons(state) == ["id_elsewhere", "id_elsewhere"]


@section("Trust")
@pytest.mark.parametrize(
    ("quoted", "reply"),
    [
        ('{"participant":"5511988887777@c.us","text":"hi"}', "same"),
        ('{"participant":"5511988887777@c.us","text":"h"}', "same"),
        ('{"participant":"5511988887777@c.us"}', "same"),
        ('{"participant":"5511988887777@c.us","text":"changed"}', "same"),
        ('{"participant":"5511988887777@c.us","text":"I owe you"}', "differs"),
        ('{"participant":"447700900123@c.us","text":"hi"}', "differs"),
    ],
)
def test_a_forged_reply_is_marked_and_changes_nothing(quoted: str, reply: str) -> None:
    answer = content("A2", chat=GROUP, author=BOB, reply_to="A1", extra=f'{{"quoted":{quoted}}}')
    original = content(chat=GROUP, author=ANA, received=T - 5)
    state = state_of(original, answer, edit("changed", author=ANA, chat=GROUP))
    assert state.messages[MessageId(S, GROUP, "A2", BOB)].reply == reply
    assert state.messages[MessageId(S, GROUP, "A1", ANA)].text == "changed"
    assert reasons(state) == (["quote_differs"] if reply == "differs" else [])


@section("Trust")
def test_a_reply_to_what_is_not_there_is_unknown() -> None:
    assert only(state_of(content(reply_to="ELSEWHERE"))).reply == "unknown"


# ---------------------------------------------------------------- the page itself
def test_every_section_of_the_page_is_held_by_a_test() -> None:
    page = (Path(__file__).parents[2] / "docs" / "merge-law.md").read_text()
    assert test_merge_law_chats, test_merge_law_messages  # importing them fills SECTIONS
    headings = set(re.findall(r"^##+ (.+)$", page, re.MULTILINE))
    assert headings - {"Facts and how they merge"} == SECTIONS
