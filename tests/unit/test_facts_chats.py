"""Calls, groups, labels, archive, presence, sessions and everything else: the traps of each engine."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.facts import (
    ArchiveFact,
    CallFact,
    ChatLabelFact,
    GroupFact,
    IdentityFact,
    JoinRequestFact,
    LabelFact,
    MemberFact,
    NameFact,
    OtherFact,
    PresenceFact,
    StatusFact,
    VersionFact,
)
from schemas.normalize.events import NORMALISERS, to_facts
from schemas.normalize.head import Record
from schemas.rows import SessionFact
from schemas.topics import ROUTES
from tests.unit.told import ANA, ANA_LID, AT, BOB, GROUP, HOUR, MY_LID, MY_NUMBER, RECEIVED, jid, one, refusal, tell

S = AT // 1000


def test_every_routed_event_has_a_normaliser() -> None:
    assert NORMALISERS.keys() == ROUTES.keys()
    assert len(NORMALISERS) == 31


# ---------------------------------------------------------------- calls
def call(event: str = "call.received", caller: str | None = ANA, **changes: Any) -> CallFact:
    return one(CallFact, event, {"id": "C1", "from": caller, "timestamp": S} | changes)


def test_calls() -> None:
    assert call("call.rejected", timestamp=S + 3.5, _data={"status": "timeout"}) == CallFact(
        "default", "C1", ANA, "rejected", "timeout", None, False, False, AT + 3500
    )
    assert call("call.accepted", isVideo=True).is_video
    assert call(caller=None).caller is None
    assert call(caller=None, _data={"CallCreator": jid(ANA)}).caller == ANA
    assert call(caller=MY_LID).caller == "me"
    group = call(caller=None, isGroup=True, _data={"GroupJID": GROUP})
    assert (group.group, group.is_group) == (GROUP, True)
    assert (call(caller=GROUP).caller, call(caller=GROUP).group) == (None, GROUP)
    alt = {"id": "C1", "_data": {"CallCreator": ANA_LID, "CallCreatorAlt": jid(ANA)}}
    assert one(IdentityFact, "call.received", alt, "GOWS").phone == ANA
    assert refusal("call.received", {"from": ANA}) == ("call_id_missing", "payload.id")
    assert refusal("call.received", {"id": "x" * 300}) == ("call_id_too_long", "payload.id")


# ---------------------------------------------------------------- groups
def member(**changes: Any) -> dict[str, Any]:
    return {"id": ANA_LID, "role": "participant"} | changes


def change(type_: str, role: str, engine: str = "NOWEB", **changes: Any) -> MemberFact:
    payload = {"group": {"id": GROUP}, "type": type_, "timestamp": AT, "participants": [member(role=role)]} | changes
    return one(MemberFact, "group.v2.participants", payload, engine)


def test_a_role_follows_from_the_type() -> None:
    """NOWEB says admin for a demotion."""
    assert change("demote", "admin").role == "participant"
    assert change("promote", "admin").role == "admin"
    assert change("leave", "left").role == "left"
    assert change("join", "participant").role == "participant"
    assert change("new type", "superadmin").role == "superadmin"


@pytest.mark.parametrize(("engine", "timestamp"), [("NOWEB", AT), ("GOWS", AT), ("WEBJS", S), ("WPP", S)])
def test_the_time_of_a_group_has_two_units(engine: str, timestamp: int) -> None:
    assert change("join", "participant", engine, timestamp=timestamp).at_ms == AT


def test_who_changed_the_members() -> None:
    assert change("join", "participant", _data={"author": jid(BOB)}).by == BOB
    assert change("join", "participant", "GOWS", _data={"Sender": BOB}).by == BOB
    assert change("join", "participant", "WPP").by is None


def test_numbers_beside_hidden_ids_of_members() -> None:
    payload = {"group": {"id": GROUP}, "type": "join", "participants": [member(pn=ANA)]}
    assert one(IdentityFact, "group.v2.participants", payload).phone == ANA
    raw = {"participants": [{"id": ANA_LID, "phoneNumber": jid(ANA)}]}
    beside = {"group": {"id": GROUP}, "type": "join", "participants": [member()], "_data": raw}
    assert one(IdentityFact, "group.v2.participants", beside).phone == ANA


def test_members_that_cannot_be_read_leave_the_event_whole() -> None:
    payload = {"group": {"id": GROUP}, "type": "join", "participants": [member(), {"id": 7}, None]}
    assert [type(f) for f in tell("group.v2.participants", payload)] == [MemberFact, OtherFact]
    nobody = {"group": {"id": GROUP}, "type": "join", "participants": [None]}
    assert refusal("group.v2.participants", nobody) == ("participants_missing", "payload.participants")
    assert refusal("group.v2.participants", {"type": "join"}) == ("chat_missing", "payload.id")


def test_a_group_told_whole_and_one_told_in_part() -> None:
    whole = {"timestamp": AT, "group": {"id": GROUP, "subject": "Team", "description": "", "participants": [member()]}}
    settings = {f.setting: f.value for f in tell("group.v2.join", whole) if isinstance(f, GroupFact)}
    assert settings == {"subject": '"Team"', "description": '""', "member_list": "1"}
    part = {f.setting for f in tell("group.v2.update", whole, "NOWEB") if isinstance(f, GroupFact)}
    assert part == {"subject", "description"}
    assert "member_list" in {f.setting for f in tell("group.v2.update", whole, "WEBJS") if isinstance(f, GroupFact)}
    unread = {"timestamp": AT, "group": {"id": GROUP, "participants": [member(), {"id": 7}]}}
    assert [type(f) for f in tell("group.v2.join", unread)] == [MemberFact, OtherFact]  # no list of all members
    nothing = {"timestamp": AT, "group": {"id": GROUP}}
    assert [type(f) for f in tell("group.v2.update", nothing)] == [OtherFact]


def test_my_own_leave() -> None:
    payload = {"timestamp": AT, "group": {"id": GROUP}, "_data": {"author": jid(BOB)}}
    assert tell("group.v2.leave", payload) == [MemberFact("default", GROUP, MY_NUMBER, "left", BOB, AT, "evt_1")]
    assert [type(f) for f in tell("group.v2.leave", payload, me=None)] == [OtherFact]


def test_the_older_events_are_the_engines_own_objects() -> None:
    people = [{"id": ANA_LID, "phoneNumber": jid(ANA), "admin": "superadmin"}, {"id": jid(BOB), "admin": None}]
    noweb = {"id": GROUP, "subject": "Team", "desc": "d", "owner": jid(ANA), "participants": people}
    facts = tell("group.join", noweb)
    roles = {f.person: f.role for f in facts if isinstance(f, MemberFact)}
    assert roles == {ANA_LID: "superadmin", BOB: "participant"}
    settings = {f.setting: f.value for f in facts if isinstance(f, GroupFact)}
    assert settings == {"subject": '"Team"', "description": '"d"', "owner": f'"{ANA}"', "member_list": "2"}
    note = {"id": {"remote": GROUP}, "chatId": GROUP, "author": BOB, "recipientIds": [ANA], "timestamp": S}
    joined, left = one(MemberFact, "group.join", note, "WEBJS"), one(MemberFact, "group.leave", note, "WEBJS")
    assert (joined.person, joined.role, joined.by) == (ANA, "participant", BOB)
    assert (left.role, left.at_ms) == ("left", AT)
    assert [type(f) for f in tell("group.leave", note | {"recipientIds": [7]}, "WEBJS")] == [OtherFact]


def test_join_requests() -> None:
    payload = {
        "group": {"id": GROUP}, "action": "created", "requesterId": ANA_LID, "requesterPn": ANA,
        "requestMethod": "invite_link", "timestamp": S,
    }  # fmt: skip
    name = "group.v2.participants.join-request"
    assert one(JoinRequestFact, name, payload).at_ms == AT
    assert one(IdentityFact, name, payload).source == "request"
    assert refusal(name, payload | {"requesterId": None}) == ("requester_missing", "payload.requesterId")
    assert refusal(name, payload | {"action": "x"}) == ("action_unknown", "payload.action")


# ---------------------------------------------------------------- labels, archive, presence
def test_labels() -> None:
    assert one(LabelFact, "label.upsert", {"id": 6, "name": "Lead", "color": "3"}).label_id == "6"
    assert one(LabelFact, "label.upsert", {"id": "6", "name": "Lead", "color": 2**40}).color is None
    deleted = one(LabelFact, "label.deleted", {"id": "6", "name": "", "color": 3})
    assert (deleted.deleted, deleted.name, deleted.at_ms) == (True, None, AT)
    added = {"labelId": "6", "chatId": ANA, "label": {"id": "6", "name": "Lead", "color": 3}}
    assert [type(f) for f in tell("label.chat.added", added, "WPP")] == [ChatLabelFact, LabelFact]
    assert one(ChatLabelFact, "label.chat.deleted", added | {"label": None}).carried is False
    assert refusal("label.upsert", {"name": "Lead"}) == ("label_id_missing", "payload.id")
    assert refusal("label.chat.added", {"labelId": "6"}) == ("chat_missing", "payload.chatId")
    assert refusal("label.chat.added", {"chatId": ANA}) == ("label_id_missing", "payload.labelId")


def test_archive() -> None:
    assert one(ArchiveFact, "chat.archive", {"id": jid(ANA), "archived": True, "timestamp": S}).chat == ANA
    assert refusal("chat.archive", {"id": ANA}) == ("archived_missing", "payload.archived")


def test_presence_of_several_people() -> None:
    people = [
        {"participant": ANA_LID, "lastKnownPresence": "typing", "lastSeen": None},
        {"participant": BOB, "lastKnownPresence": "offline", "lastSeen": S - 60},
    ]
    facts = tell("presence.update", {"id": GROUP, "presences": people})
    assert facts == [
        PresenceFact("default", GROUP, ANA_LID, "typing", None, AT, "evt_1"),
        PresenceFact("default", GROUP, BOB, "offline", AT - 60_000, AT, "evt_1"),
    ]
    some = tell("presence.update", {"id": GROUP, "presences": [*people, {"participant": 7}]})
    assert [type(f) for f in some] == [PresenceFact, PresenceFact, OtherFact]
    assert refusal("presence.update", {"id": GROUP, "presences": []}) == ("presence_missing", "payload.presences")


# ---------------------------------------------------------------- sessions and the rest
def test_a_session_tells_its_history_its_version_and_its_account() -> None:
    points = [{"status": "STARTING", "timestamp": AT - 5}, {"status": "WORKING", "timestamp": AT}, {"status": 7}]
    payload = {"status": "WORKING", "statuses": points, "data": {"code": "secret"}}
    facts = tell("session.status", payload, environment={"version": "2026.7.1"})
    hour = AT - AT % HOUR
    assert facts[1:] == [
        StatusFact("default", "STARTING", AT - 5), StatusFact("default", "WORKING", AT),
        VersionFact("default", "NOWEB", "2026.7.1", AT),
        IdentityFact("default", MY_LID, MY_NUMBER, True, "account", hour),
        NameFact("default", MY_NUMBER, "push", "Acme", hour),
    ]  # fmt: skip
    assert isinstance(facts[0], SessionFact)
    assert "secret" not in repr(facts)


def test_a_session_before_statuses_were_told() -> None:
    facts = tell("session.status", {"status": "SCAN_QR_CODE"}, me=None)
    assert [f for f in facts if isinstance(f, StatusFact)] == [StatusFact("default", "SCAN_QR_CODE", AT)]


@pytest.mark.parametrize("event", ["state.change", "engine.event", "message.pinned"])
def test_what_has_no_table_is_kept_whole(event: str) -> None:
    assert one(OtherFact, event, "CONNECTED", "WEBJS").body.endswith('"payload": "CONNECTED"}')
    odd = one(OtherFact, event, {"id": f"false_{ANA}_A1", "text": "a\x00\ud83d"})
    assert (odd.chat, odd.body.count("\x00")) == (ANA, 0)
    odd.body.encode()


def test_old_envelopes_have_neither_id_nor_time() -> None:
    found = one(LabelFact, "label.upsert", {"id": "6"}, id=None, timestamp=None)
    assert (found.event_id, found.at_ms) == ("", RECEIVED)


def test_a_second_waha_keeps_its_sessions_apart() -> None:
    body = b'{"session":"default","payload":{"id":"6"}}'
    (fact,) = to_facts(body, Record("label.upsert", "berlin", RECEIVED))
    assert isinstance(fact, LabelFact)
    assert fact.session == "berlin:default"


@pytest.mark.parametrize("event", sorted(NORMALISERS))
def test_an_event_without_session_is_refused(event: str) -> None:
    assert refusal(event, {"id": f"false_{ANA}_A1", "ack": 1, "status": "WORKING"}, session="")[0] in (
        "session_missing", "vote_missing", "poll_missing",
    )  # fmt: skip


@pytest.mark.parametrize("event", sorted(NORMALISERS.keys() - {"state.change", "engine.event"}))
def test_an_event_without_payload_is_refused_with_a_path(event: str) -> None:
    assert refusal(event, None)[1].startswith("payload")
