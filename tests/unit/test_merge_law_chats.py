"""docs/merge-law.md, calls, groups, labels, presence, sessions, names, other events. Each test names its section."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from schemas.facts import (
    ArchiveFact,
    CallFact,
    ChatLabelFact,
    Fact,
    GroupFact,
    JoinRequestFact,
    LabelFact,
    NameFact,
    OtherFact,
    PresenceFact,
    SeenFact,
    StatusFact,
    VersionFact,
)
from schemas.law import merge
from schemas.rows import SessionFact
from tests.unit.law_facts import (
    ANA,
    ANA_LID,
    BOB,
    GROUP,
    HOUR,
    MY_NUMBER,
    S,
    T,
    member,
    same,
    section,
    state_of,
)


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


@section("People and chats met")
def test_somebody_met_on_several_days() -> None:
    day = 24 * HOUR
    facts = [SeenFact(S, ANA, False, day), SeenFact(S, ANA, True, 3 * day), SeenFact(S, ANA, False, 2 * day)]
    assert merge(facts).seen == {(S, ANA): (True, (day, 3 * day))}
    assert merge(facts[::-1]) == merge(facts)


@section("Other events")
def test_other_events_are_stored_once() -> None:
    pinned = OtherFact(S, "message.pinned", "evt_1", "GOWS", ANA, T, "{}")
    assert len(merge([pinned, pinned, OtherFact(S, "engine.event", "evt_1", "GOWS", None, T, "{}")]).others) == 2
    assert len(merge([OtherFact(S, "x", "", None, None, T, b) for b in ('{"a":1}', '{"a":2}', '{"a":1}')]).others) == 2
