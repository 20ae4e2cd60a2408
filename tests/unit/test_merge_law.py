"""docs/merge-law.md, case by case. Each test names the section that it holds true."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import permutations
from pathlib import Path
from typing import Any, TypeVar

import pytest

from schemas.facts import (
    AckFact,
    ArchiveFact,
    CallFact,
    ChatLabelFact,
    EditFact,
    Fact,
    GroupFact,
    IdentityFact,
    JoinRequestFact,
    LabelFact,
    MemberFact,
    NameFact,
    OtherFact,
    PresenceFact,
    RankedContent,
    ReactionFact,
    ResponseFact,
    RevokeFact,
    StatusFact,
    VersionFact,
    VoteFact,
)
from schemas.keys import ME, PEER
from schemas.law import State, merge, read
from schemas.law.view import Message, MessageId
from schemas.rows import ContentFact, SessionFact, content_rank

S = "default"
ANA, ANA_LID, BOB = "5511988887777@c.us", "123456789012345@lid", "447700900123@c.us"
MY_NUMBER, MY_LID = "4915112345678@c.us", "99887766554433@lid"
GROUP = "120363040000000001@g.us"
T = 1_784_973_600_000
HOUR = 3_600_000

SECTIONS: set[str] = set()
F = TypeVar("F", bound=Callable[..., None])


def section(name: str) -> Callable[[F], F]:
    """Names the heading that a test belongs to."""
    SECTIONS.add(name)
    return lambda test: test


def content(raw_id: str = "A1", **changes: Any) -> RankedContent:
    """A text of Ana's in the direct chat with her, unless `changes` say otherwise."""
    author, chat = changes.pop("author", PEER), changes.pop("chat", ANA)
    received, lane, poverty = changes.pop("received", T), changes.pop("lane", 0), changes.pop("poverty", 0)
    from_me = author == ME
    fields: dict[str, Any] = {
        "session": S, "chat": chat, "sender": MY_NUMBER if from_me else author or chat, "participant": None,
        "key_sender": "" if from_me else author, "ts_ms": T, "from_me": from_me, "has_media": False, "raw_id": raw_id,
        "type": "text", "body": "hi", "reply_to": None, "source": None, "push_name": None, "mimetype": None,
        "filename": None, "event_id": "evt_1", "extra": None, "poverty": poverty,
    }  # fmt: skip
    fact = ContentFact(**{**fields, **changes})
    apart = f"{fact.event_id}{fact.body}".encode()
    return RankedContent(fact, content_rank(poverty, lane, received, apart), received, lane)


def ack(
    level: int, at_ms: int | None = T, recipient: str | None = None, chat: str = ANA, raw_id: str = "A1"
) -> AckFact:
    return AckFact(S, chat, raw_id, ME, recipient, level, at_ms)


def edit(text: str | None, at_ms: int = T, event_id: str = "evt_2", author: str = PEER, **changes: Any) -> EditFact:
    chat, raw_id = changes.get("chat", ANA), changes.get("raw_id", "A1")
    return EditFact(S, chat, raw_id, author, changes.get("edit_id", f"E-{event_id}"), text, at_ms, event_id, None)


def revoke(by: str = ANA, author: str | None = PEER, chat: str = ANA, at_ms: int = T, **changes: Any) -> RevokeFact:
    return RevokeFact(S, chat, changes.get("raw_id", "A1"), author, by, at_ms, "evt_3", None, changes.get("before"))


def react(emoji: str, at_ms: int = T, by: str = ANA, author: str | None = ME, **changes: Any) -> ReactionFact:
    event_id, chat = changes.get("event_id", "evt_4"), changes.get("chat", ANA)
    return ReactionFact(S, chat, changes.get("raw_id", "A1"), author, by, emoji, at_ms, event_id)


def vote(*options: str, voter: str = ANA, at_ms: int = T, failed: bool = False, **changes: Any) -> VoteFact:
    return VoteFact(
        S, changes.get("chat", GROUP), "A1", ME, voter, options, failed, at_ms, changes.get("event_id", "e")
    )


def same(lid: str = ANA_LID, phone: str = ANA, at_ms: int = T, holds: bool = True, session: str = S) -> IdentityFact:
    return IdentityFact(session, lid, phone, holds, "message", at_ms)


def member(person: str, role: str, at_ms: int = T) -> MemberFact:
    return MemberFact(S, GROUP, person, role, None, at_ms, "evt_5")


def state_of(*facts: Fact) -> State:
    """What is read of the facts; they are merged in several orders, which must say the same."""
    state = read(merge(facts))
    orders = list(permutations(facts)) if len(facts) <= 4 else [facts[::-1], facts[1:] + facts[:1]]
    for order in orders:
        assert read(merge([*order, *order[:2]])) == state
    return state


def only(state: State) -> Message:
    (message,) = state.messages.values()
    return message


def reasons(state: State) -> list[str]:
    return sorted(flag.reason for flag in state.flagged)


# ---------------------------------------------------------------- which message a fact means
@section("Which message a fact means")
def test_acts_without_an_author_mean_the_elder_of_two_messages() -> None:
    first = content(chat=GROUP, author=ANA, received=T)
    copy = content(chat=GROUP, author=BOB, received=T + 1, body="copy")
    acts = (react("👍", by=BOB, author=None, chat=GROUP), revoke(by=ANA, author=None, chat=GROUP))
    state = state_of(first, copy, *acts)
    elder, younger = state.messages[MessageId(S, GROUP, "A1", ANA)], state.messages[MessageId(S, GROUP, "A1", BOB)]
    assert (elder.reactions, elder.revoked_by) == ({BOB: "👍"}, ANA)
    assert (younger.reactions, younger.revoked_by) == ({}, None)


@section("Which message a fact means")
def test_a_placeholder_keeps_its_place_as_the_elder() -> None:
    """Nobody steps between a message that could not be decrypted yet and its text."""
    waiting = content(chat=GROUP, author=ANA, type="waiting", body=None, poverty=2, received=T, event_id="evt_0")
    copy = content(chat=GROUP, author=BOB, received=T + 1)
    state = state_of(
        waiting, copy, content(chat=GROUP, author=ANA, received=T + 2), react("👍", author=None, chat=GROUP)
    )
    assert state.messages[MessageId(S, GROUP, "A1", ANA)].reactions == {ANA: "👍"}


@section("Which message a fact means")
def test_an_act_that_names_the_wrong_author_means_the_elder() -> None:
    """`fromMe` can be the peer's view."""
    assert only(state_of(content(), react("👍", author=ME))).reactions == {ANA: "👍"}


@section("Which message a fact means")
def test_a_fact_about_a_message_that_never_came_waits() -> None:
    state = state_of(ack(3), react("👍"))
    assert state.messages == {}
    assert reasons(state) == ["no_message", "no_message"]


# ---------------------------------------------------------------- who is one person
@section("Who is one person")
@pytest.mark.parametrize("place", [0, 1, 2], ids=["before", "between", "after"])
def test_twins_are_one_message_whenever_the_mapping_is_learned(place: int) -> None:
    facts: list[Fact] = [content(chat=ANA_LID, received=T), content(chat=ANA, received=T + 1)]
    facts.insert(place, same())
    state = state_of(*facts)
    assert list(state.messages) == [MessageId(S, ANA, "A1", PEER)]
    assert state.flagged == []


@section("Who is one person")
def test_both_histories_are_one_chat_and_part_again_when_the_mapping_is_unlearned() -> None:
    messages = (content("A1", chat=ANA_LID), content("A2", chat=ANA))
    assert {m.chat for m in state_of(*messages).messages} == {ANA_LID, ANA}
    assert {m.chat for m in state_of(*messages, same()).messages} == {ANA}
    assert {m.chat for m in state_of(*messages, same(), same(at_ms=T + HOUR, holds=False)).messages} == {ANA_LID, ANA}
    again = same(at_ms=T + 2 * HOUR)
    assert {m.chat for m in read(merge([*messages, same(), same(at_ms=T + HOUR, holds=False), again])).messages} == {
        ANA
    }


@section("Who is one person")
def test_of_one_hour_no_longer_wins() -> None:
    state = state_of(content("A1", chat=ANA_LID), content("A2", chat=ANA), same(), same(holds=False))
    assert {m.chat for m in state.messages} == {ANA_LID, ANA}


@section("Who is one person")
def test_a_number_that_changes_hands_leaves_its_former_owner() -> None:
    new_lid = "333333333333333@lid"
    facts = (content("A1", chat=ANA_LID), content("A2", chat=new_lid))
    state = state_of(*facts, same(), same(lid=new_lid, at_ms=T + HOUR))
    assert {m.chat for m in state.messages} == {ANA_LID, ANA}
    assert MessageId(S, ANA, "A2", PEER) in state.messages


@section("Who is one person")
def test_two_sessions_do_not_mix() -> None:
    state = state_of(content(chat=ANA_LID), same(session="other"))
    assert list(state.messages) == [MessageId(S, ANA_LID, "A1", PEER)]


@section("Who is one person")
def test_in_a_group_a_person_under_two_ids_wrote_one_message_and_edits_it() -> None:
    state = state_of(
        content(chat=GROUP, author=ANA_LID), edit("new", author=ANA, chat=GROUP), react("👍", by=ANA, author=ANA, chat=GROUP),
        react("❤️", by=ANA_LID, author=None, chat=GROUP, at_ms=T + 1), same(),
    )  # fmt: skip
    assert only(state).text == "new"
    assert only(state).reactions == {ANA: "❤️"}
    assert state.flagged == []


@section("Who is one person")
def test_the_account_is_me_under_both_its_ids() -> None:
    session = SessionFact(S, "WORKING", datetime.fromtimestamp(0, UTC), MY_NUMBER, MY_LID, None, None, None)
    state = state_of(
        content(), react("👍", by=MY_LID, author=PEER), react("", by=ME, author=PEER, at_ms=T + 1), session
    )
    assert only(state).reactions == {}


# ---------------------------------------------------------------- facts
@section("Content")
def test_of_a_message_that_comes_again_the_first_stays() -> None:
    state = state_of(content(), content(received=T + 5, ts_ms=T + 60_000, body="older duplicate"))
    assert (only(state).content.body, only(state).content.ts_ms) == ("hi", T)


@section("Content")
def test_a_placeholder_gives_way_whenever_it_came() -> None:
    state = state_of(content(received=T + 9), content(type="waiting", body=None, poverty=2, event_id="evt_0"))
    assert only(state).content.type == "text"


@section("Content")
def test_history_gives_way_to_what_came_live() -> None:
    assert only(state_of(content(body="live", received=T + 9), content(body="then edited", lane=1))).text == "live"


@section("Acks")
def test_an_ack_never_goes_backwards_and_keeps_the_first_time_of_each_level() -> None:
    message = only(state_of(content(author=ME), ack(3, T + 3), ack(1, T + 1), ack(2, T + 9)))
    assert message.ack == 4  # read
    assert message.acks[None] == (4, (None, None, T + 1, T + 9, T + 3, None))


@section("Acks")
def test_an_error_outdoes_pending_and_gives_way_to_progress() -> None:
    assert only(state_of(content(author=ME), ack(0), ack(-1))).ack == 1
    assert only(state_of(content(author=ME), ack(0), ack(-1), ack(1))).ack == 2


@section("Acks")
def test_in_a_group_every_recipient_has_his_own() -> None:
    facts = [ack(2, T, ANA_LID, GROUP), ack(3, T + 1, ANA, GROUP), ack(2, T + 2, BOB, GROUP), ack(1, None, None, GROUP)]
    message = only(state_of(content(chat=GROUP, author=ME), *facts, same()))
    assert {who: rank for who, (rank, _) in message.acks.items()} == {None: 2, ANA: 4, BOB: 3}


@section("Edits")
def test_the_newest_readable_edit_is_shown_and_all_are_kept() -> None:
    edits = (edit("second", T + 2, "evt_7"), edit("first", T + 1, "evt_6"), edit(None, T + 3, "evt_8"))
    message = only(state_of(content(), *edits))
    assert message.text == "second"
    assert [e.text for e in message.edits] == ["first", "second", None]


@section("Edits")
def test_of_two_edits_of_one_second_the_later_envelope_wins() -> None:
    assert only(state_of(content(), edit("a", T, "evt_9"), edit("z", T, "evt_8"))).text == "a"


@section("Edits")
def test_an_edit_told_twice_is_one_and_stays_readable() -> None:
    twice = (
        edit("new", edit_id="E"),
        edit(None, event_id="evt_1", edit_id="E"),
        edit("new", event_id="evt_9", edit_id="E"),
    )
    message = only(state_of(content(), *twice))
    assert [(e.text, e.event_id) for e in message.edits] == [("new", "evt_2")]


@section("Revokes")
def test_a_tombstone_keeps_the_text_and_no_edit_brings_it_back() -> None:
    message = only(state_of(content(), revoke(at_ms=T + 1), edit("late", T + 9), revoke(at_ms=T + 5)))
    assert (message.revoked_by, message.revoked_ms) == (ANA, T + 1)
    assert (message.content.body, message.text) == ("hi", "late")


@section("Revokes")
def test_a_revoke_before_its_message_and_its_edit_counts_when_they_come() -> None:
    assert only(read(merge([revoke(), edit("x"), content()]))).revoked_by == ANA


@section("Revokes")
def test_in_a_group_another_member_can_revoke_and_is_named() -> None:
    facts = (content(chat=GROUP, author=ANA), revoke(by=BOB, author=None, chat=GROUP))
    assert only(state_of(*facts)).revoked_by == BOB
    assert only(state_of(*facts, member(BOB, "admin", T - 1))).revoked_by == BOB


@section("Reactions")
def test_one_reaction_a_person_and_a_removal_is_a_fact() -> None:
    facts = (react("❤️", T), react("", T + 1), react("❤️", T, event_id="evt_9"))
    assert only(state_of(content(author=ME), *facts)).reactions == {}
    assert only(state_of(content(author=ME), *facts, react("👍", T + 2))).reactions == {ANA: "👍"}
    assert only(state_of(content(author=ME), react("❤️"), react("👍", by=ME))).reactions == {ANA: "❤️", ME: "👍"}


@section("Votes")
def test_the_last_selection_counts_and_an_empty_one_clears_it() -> None:
    poll = content(chat=GROUP, author=ME, type="poll", body=None, extra='{"poll":{"options":["Pizza","Sushi"]}}')
    message = only(state_of(poll, vote("Pizza"), vote("Sushi", at_ms=T + 1), vote("Pizza", "Burger", voter=BOB)))
    assert message.votes == {ANA: ("Sushi",), BOB: ("Pizza", "Burger")}
    assert message.tally == {"Pizza": 1, "Sushi": 1, "Burger": 1}
    assert only(state_of(poll, vote("Pizza"), vote(at_ms=T + 1))).tally == {"Pizza": 0, "Sushi": 0}


@section("Votes")
def test_one_person_under_two_ids_votes_once() -> None:
    poll = content(chat=GROUP, author=ME, type="poll", body=None)
    message = only(state_of(poll, vote("Pizza"), vote("Sushi", voter=ANA_LID, at_ms=T + 1), same()))
    assert message.tally == {"Sushi": 1}


@section("Votes")
def test_a_vote_that_could_not_be_read_changes_no_choice() -> None:
    poll = content(chat=GROUP, author=ME, type="poll", body=None)
    message = only(state_of(poll, vote("Pizza"), vote(failed=True, at_ms=T + 1)))
    assert (message.votes, message.unreadable) == ({ANA: ("Pizza",)}, {ANA})
    later = only(state_of(poll, vote("Pizza"), vote(failed=True, at_ms=T + 1), vote("Sushi", at_ms=T + 2)))
    assert (later.votes, later.unreadable) == ({ANA: ("Sushi",)}, set())


@section("Event responses")
def test_the_last_answer_of_a_person_counts() -> None:
    event = content(type="event", author=ME, body=None)
    answers = (
        ResponseFact(S, ANA, "A1", ME, ANA, "GOING", 2, False, T, "evt_1"),
        ResponseFact(S, ANA, "A1", ME, ANA, "NOT_GOING", 0, False, T + 1, "evt_0"),
        ResponseFact(S, ANA, "A1", ME, ANA, None, 0, True, T + 2, "evt_2"),
    )
    message = only(state_of(event, *answers))
    assert (message.responses, message.unreadable) == ({ANA: ("NOT_GOING", 0)}, {ANA})


def call(state: str, at_ms: int, caller: str | None = ANA, detail: str | None = None, **changes: Any) -> CallFact:
    return CallFact(S, "C1", caller, state, detail, changes.get("group"), changes.get("video", False), False, at_ms)


@section("Calls")
def test_states_of_a_call_are_one_row() -> None:
    facts = (
        call("received", T + 5),
        call("received", T),
        call("rejected", T + 9, None, "timeout"),
        call("accepted", T + 2, video=True),
    )
    ((key, row),) = state_of(*facts).calls.items()
    assert key == (S, "C1", ANA)
    assert (row.received_ms, row.accepted_ms, row.rejected_ms) == (T, T + 2, T + 9)
    assert (row.detail, row.is_video) == ("timeout", True)


@section("Calls")
def test_another_caller_with_the_same_id_makes_a_call_of_his_own() -> None:
    facts = (call("received", T), call("received", T + 1, BOB, video=True), call("rejected", T + 2, None))
    calls = state_of(*facts).calls
    assert calls[S, "C1", ANA].rejected_ms == T + 2
    assert not calls[S, "C1", ANA].is_video
    assert calls[S, "C1", BOB].rejected_ms is None


@section("Groups")
def test_members_over_time() -> None:
    from schemas.law.people import Groups, People

    facts: list[Fact] = [
        member(ANA_LID, "participant", T), member(ANA, "admin", T + 10), member(BOB, "participant", T),
        GroupFact(S, GROUP, "member_list", "2", T, "e"), member(BOB, "left", T + 20),
        GroupFact(S, GROUP, "member_list", "1", T + 30, "e"), member(BOB, "participant", T + 30), same(),
    ]  # fmt: skip
    stored = merge(facts)
    groups = Groups(stored, People(stored))
    assert groups.members(S, GROUP, T - 1) == {}
    assert groups.members(S, GROUP, T) == {ANA: "participant", BOB: "participant"}
    assert groups.members(S, GROUP, T + 10) == {ANA: "admin", BOB: "participant"}
    assert groups.members(S, GROUP, T + 20) == {ANA: "admin"}
    assert groups.members(S, GROUP, T + 30) == {BOB: "participant"}  # Ana is not in the second list


@section("Groups")
def test_the_newest_setting_is_the_present() -> None:
    facts = [GroupFact(S, GROUP, "subject", '"New"', T + 1, "e"), GroupFact(S, GROUP, "subject", '"Old"', T, "e")]
    assert state_of(*facts).settings == {(S, GROUP, "subject"): '"New"'}
    assert len(merge(facts).settings) == 2
    request = JoinRequestFact(S, GROUP, ANA, "created", "invite_link", T, "e")
    assert len(merge([request, request, JoinRequestFact(S, GROUP, ANA, "rejected", None, T, "f")]).join_requests) == 2


@section("Labels and chats")
def test_labels_come_and_go() -> None:
    lead = LabelFact(S, "6", False, "Lead", 3, "#dfaef0", T, "e")
    gone = LabelFact(S, "6", True, None, None, None, T + 1, "e")
    assert state_of(lead).labels == {(S, "6"): ("Lead", 3)}
    assert state_of(lead, gone).labels == {}
    stored = merge([gone, lead])
    assert stored.labels[S, "6"].look == (T, "e", "Lead", 3, "#dfaef0")
    carried = (ChatLabelFact(S, ANA_LID, "6", True, T, "e"), ChatLabelFact(S, ANA, "6", False, T + 1, "e"), same())
    assert state_of(*carried).chat_labels == set()
    assert state_of(*carried[::2]).chat_labels == {(S, ANA, "6")}
    archived = (ArchiveFact(S, ANA, True, T, "evt_2"), ArchiveFact(S, ANA, False, T, "evt_1"))
    assert state_of(*archived).archived == {(S, ANA)}


@section("Presence")
def test_the_newest_presence_and_the_newest_last_seen() -> None:
    facts = (PresenceFact(S, ANA, ANA, "typing", None, T + 1, "e"), PresenceFact(S, ANA, ANA, "offline", T - 9, T, "e"))
    assert state_of(*facts).presence == {(S, ANA, ANA): "typing"}
    assert merge(facts).presence[S, ANA, ANA].last_seen_ms == T - 9


@section("Sessions")
def test_a_session_keeps_its_account_its_history_and_its_versions() -> None:
    at = datetime.fromtimestamp(T / 1000, UTC)
    working = SessionFact(S, "WORKING", at, MY_NUMBER, None, "Acme", "NOWEB", "2026.4.1")
    stopped = SessionFact(S, "STOPPED", at.replace(second=9), None, None, None, "GOWS", "2026.7.1")
    points = (StatusFact(S, "WORKING", T), StatusFact(S, "WORKING", T), StatusFact(S, "STOPPED", T + 9000))
    versions = (
        VersionFact(S, "NOWEB", "1", T),
        VersionFact(S, "NOWEB", "1", T - 5),
        VersionFact(S, "GOWS", "2", T + 9),
    )
    stored = merge([stopped, working, *points, *versions])
    row = stored.sessions[(S,)]
    assert row.state == (at.replace(second=9), "STOPPED", "GOWS", "2026.7.1")
    assert row.account == (at, MY_NUMBER, "", "Acme")
    assert len(stored.statuses) == 2
    assert stored.versions == {(S, "NOWEB", "1"): (T - 5, T), (S, "GOWS", "2"): (T + 9, T + 9)}


@section("Names")
def test_saved_before_push_before_verified_and_the_last_told_of_one_source() -> None:
    push: list[Fact] = [NameFact(S, ANA, "push", "Ana", T), NameFact(S, ANA_LID, "push", "Ana 🦊", T + HOUR), same()]
    verified = NameFact(S, ANA, "verified", "Ana Ltd", T + 5 * HOUR)
    assert state_of(*push, verified).names == {(S, ANA): "Ana 🦊"}
    assert state_of(*push, NameFact(S, ANA, "saved", "Ana M.", T - HOUR)).names == {(S, ANA): "Ana M."}
    again = NameFact(S, ANA, "push", "Ana", T + 2 * HOUR)
    assert merge([*push, again]).names[S, ANA, "push", "Ana"] == (T, T + 2 * HOUR)


@section("Other events")
def test_other_events_are_stored_once() -> None:
    pinned = OtherFact(S, "message.pinned", "evt_1", "GOWS", ANA, T, "{}")
    assert len(merge([pinned, pinned, OtherFact(S, "engine.event", "evt_1", "GOWS", None, T, "{}")]).others) == 2
    assert len(merge([OtherFact(S, "x", "", None, None, T, b) for b in ('{"a":1}', '{"a":2}', '{"a":1}')]).others) == 2


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
    headings = set(re.findall(r"^##+ (.+)$", page, re.MULTILINE))
    assert headings - {"Facts and how they merge"} == SECTIONS
