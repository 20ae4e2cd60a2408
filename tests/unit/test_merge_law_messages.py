"""docs/merge-law.md, what is said of messages: which message a fact means, who is one person, and each kind of fact.

Each test names the section that it holds true."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from schemas.facts import (
    Fact,
    GroupFact,
    ResponseFact,
)
from schemas.keys import ME, PEER
from schemas.law import merge, read
from schemas.law.view import MessageId
from schemas.rows import SessionFact
from tests.unit.law_facts import (
    ANA,
    ANA_LID,
    BOB,
    GROUP,
    HOUR,
    MY_LID,
    MY_NUMBER,
    S,
    T,
    ack,
    content,
    edit,
    member,
    only,
    react,
    reasons,
    revoke,
    same,
    section,
    state_of,
    vote,
)


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
def test_a_text_that_the_engine_still_had_is_kept_whichever_telling_has_it() -> None:
    twice = [revoke(at_ms=T, before=None), revoke(at_ms=T + 1, before="secret")]
    (row,) = merge(twice).revokes.values()
    assert (row.at_ms, row.text_before) == (T, "secret")


@section("Revokes")
def test_a_revoke_before_its_message_and_its_edit_counts_when_they_come() -> None:
    assert only(read(merge([revoke(), edit("x"), content()]))).revoked_by == ANA


@section("Revokes")
def test_in_a_group_another_member_can_revoke_and_is_named() -> None:
    facts = (content(chat=GROUP, author=ANA), revoke(by=BOB, author=None, chat=GROUP))
    assert only(state_of(*facts)).revoked_by == BOB
    assert only(state_of(*facts, member(BOB, "admin", T - 1))).revoked_by == BOB
    listed = GroupFact(S, GROUP, "member_list", "1", T - 1, "e")
    own = (content(chat=GROUP, author=ANA), revoke(by=ME, author=None, chat=GROUP), member(MY_NUMBER, "admin", T - 1))
    assert only(state_of(*own, listed)).revoked_by == ME  # also before anybody said which number is the account's


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
