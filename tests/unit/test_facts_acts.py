"""Acks, edits, revokes, reactions, votes and responses: the traps of each engine."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.facts import AckFact, EditFact, IdentityFact, ReactionFact, ResponseFact, RevokeFact, VoteFact, ack_rank
from tests.unit.told import ANA, ANA_LID, AT, BOB, GROUP, MY_LID, MY_NUMBER, RECEIVED, STATUS, jid, one, refusal, tell

S = AT // 1000
OWN_IN_GROUP = f"true_{GROUP}_A1_{MY_NUMBER}"


# ---------------------------------------------------------------- acks
def receipt(reader: str, **time: int) -> dict[str, Any]:
    """NOWEB names me as the participant, and the reader in `_data`."""
    return {"participant": MY_NUMBER, "_data": {"receipt": {"userJid": reader} | time}}


@pytest.mark.parametrize(
    ("payload", "engine", "recipient", "level", "at_ms"),
    [
        (receipt(jid(ANA), receiptTimestamp=S - 9), "NOWEB", ANA, 2, AT - 9000),
        (receipt(ANA_LID, readTimestamp=S) | {"ack": 3}, "NOWEB", ANA_LID, 3, AT),
        (receipt(ANA_LID, playedTimestamp=S) | {"ack": 4}, "NOWEB", ANA_LID, 4, AT),
        ({"participant": MY_NUMBER}, "NOWEB", None, 1, AT),
        ({"participant": MY_LID}, "WPP", None, 1, AT),
        ({"participant": ANA_LID, "ack": 2, "_data": {"Timestamp": "2026-07-25T09:59:58Z"}}, "GOWS", ANA_LID, 2, AT - 2000),
        ({"participant": ANA_LID, "ack": 3, "fromMe": False}, "WEBJS", ANA_LID, 3, AT),
        ({"participant": f"{ANA.split('@')[0]}:12@s.whatsapp.net", "ack": 3}, "WPP", ANA, 3, AT),
    ],
    ids=["delivered", "read", "played", "server", "server WPP", "GOWS", "WEBJS inverts fromMe", "device part"],
)  # fmt: skip
def test_who_got_a_group_message_and_when(
    payload: dict[str, Any], engine: str, recipient: str | None, level: int, at_ms: int
) -> None:
    told = {"id": OWN_IN_GROUP, "from": GROUP, "fromMe": True, "ack": 1} | payload
    assert tell("message.ack.group", told, engine) == [AckFact("default", GROUP, "A1", "me", recipient, level, at_ms)]


def test_a_status_is_read_by_people_too() -> None:
    payload = {"id": f"true_{STATUS}_A1_{MY_NUMBER}", "participant": ANA, "ack": 3}
    assert one(AckFact, "message.ack.group", payload, "WEBJS").recipient == ANA


def test_an_ack_is_read_by_its_name_when_it_has_no_number() -> None:
    payload = {"id": f"true_{ANA}_A1", "ackName": "PLAYED"}
    assert one(AckFact, "message.ack", payload).level == 4
    assert refusal("message.ack", {"id": f"true_{ANA}_A1"}) == ("ack_missing", "payload.ack")
    assert refusal("message.ack", {"id": f"true_{ANA}_A1", "ack": 7}) == ("ack_unknown", "payload.ack")


def test_acks_are_ranked_with_the_error_above_pending() -> None:
    assert [ack_rank(level) for level in (0, -1, 1, 2, 3, 4)] == [0, 1, 2, 3, 4, 5]


def test_an_ack_without_any_time_takes_the_one_of_its_receipt() -> None:
    assert one(AckFact, "message.ack", {"id": f"true_{ANA}_A1", "ack": 3}, timestamp=None).at_ms == RECEIVED


def test_an_ack_of_a_raw_id_takes_the_chat_from_its_fields() -> None:
    payload = {"id": "A1", "from": MY_NUMBER, "to": ANA, "fromMe": True, "ack": 2}
    assert one(AckFact, "message.ack", payload, "WPP").chat == ANA
    assert one(AckFact, "message.ack", payload | {"from": ANA}, "NOWEB").chat == ANA
    assert refusal("message.ack", {"id": "A1", "ack": 2}) == ("chat_missing", "payload.from")


# ---------------------------------------------------------------- edits
def edited(engine: str, **changes: Any) -> EditFact:
    payload = {"id": f"false_{ANA}_E1", "timestamp": S, "from": ANA, "body": "new", "editedMessageId": "T"} | changes
    return one(EditFact, "message.edited", payload, engine)


def test_when_and_by_which_id_a_message_was_edited() -> None:
    protocol = {"protocolMessage": {"type": 14, "key": {"id": "T"}, "timestampMs": str(AT + 5)}}
    assert edited("NOWEB", _data={"message": protocol}).at_ms == AT + 5
    go = {"protocolMessage": {"type": 14, "key": {"ID": "T"}, "timestampMS": AT + 5}}
    assert edited("GOWS", _data={"Message": go}).at_ms == AT + 5
    assert edited("NOWEB", timestamp=S - 60).at_ms == AT - 60_000
    # Browser engines tell the message's own time.
    web = edited("WEBJS", id=f"false_{ANA}_T", timestamp=S - 60, _data={"prevBody": "old"})
    assert (web.at_ms, web.edit_id, web.text_before) == (AT, "evt_1", "old")
    assert edited("WPP", timestamp=S - 60, _data={"latestEditSenderTimestampMs": S}).at_ms == AT


def test_the_message_that_an_edit_means() -> None:
    assert edited("WPP", editedMessageId=f"false_{ANA}_T").raw_id == "T"
    assert edited("WEBJS", id=f"false_{ANA}_T", editedMessageId=None).raw_id == "T"
    protocol = {"protocolMessage": {"type": 14, "key": {"id": "T"}}}
    assert edited("NOWEB", editedMessageId=None, _data={"message": protocol}).raw_id == "T"
    assert refusal("message.edited", {"id": f"false_{ANA}_E1"}) == ("message_id_missing", "payload.editedMessageId")


def test_an_edit_that_could_not_be_decrypted_has_no_text() -> None:
    assert edited("NOWEB", body="").text is None


def test_an_edit_belongs_to_whoever_edits() -> None:
    assert edited("NOWEB").author == ""
    assert edited("NOWEB", id=f"true_{ANA}_E1").author == "me"
    assert edited("NOWEB", id=f"false_{GROUP}_E1_{ANA_LID}").author == ANA_LID
    assert edited("GOWS", id=f"false_{GROUP}_E1_{ANA_LID}", participant=BOB).author == BOB


# ---------------------------------------------------------------- revokes
def revoked(after: dict[str, Any], engine: str, **changes: Any) -> RevokeFact:
    return one(
        RevokeFact, "message.revoked", {"revokedMessageId": "T", "after": after, "before": None} | changes, engine
    )


def test_a_revoke_of_wpp_is_two_keys() -> None:
    theirs = revoked({"id": "R1", "fromMe": False, "remoteJid": jid(ANA)}, "WPP")
    assert (theirs.chat, theirs.author, theirs.by, theirs.at_ms, theirs.revoke_id) == (ANA, "", ANA, AT, "R1")
    own = revoked({"id": "R1", "fromMe": True, "remoteJid": jid(ANA)}, "WPP")
    assert (own.chat, own.author, own.by) == (ANA, "me", "me")
    before = {"id": "T", "remoteJid": GROUP, "participant": jid(ANA)}
    admin = revoked({"id": "R1", "remoteJid": GROUP, "participant": jid(BOB)}, "WPP", before=before)
    assert (admin.chat, admin.author, admin.by) == (GROUP, ANA, BOB)


def test_which_message_webjs_means() -> None:
    after = {"id": f"false_{ANA}_R1", "timestamp": S - 60}
    key = {"protocolMessageKey": {"id": "T"}}
    assert revoked(after | {"_data": key}, "WEBJS", revokedMessageId=None).raw_id == "T"
    same = revoked(after, "WEBJS", revokedMessageId=None, before={"id": f"false_{ANA}_R1", "body": "secret"})
    assert (same.raw_id, same.revoke_id, same.text_before) == ("R1", None, "secret")
    assert same.at_ms == AT  # `after` has the message's own time


def test_a_revoke_in_a_group_knows_the_author_only_when_it_says_so() -> None:
    after = {"id": f"false_{GROUP}_R1_{BOB}", "participant": BOB, "timestamp": S - 60}
    assert revoked(after, "NOWEB").author is None
    key = {"message": {"protocolMessage": {"type": 0, "key": {"id": "T", "participant": jid(ANA)}}}}
    named = revoked(after, "NOWEB", _data=key)
    assert (named.author, named.by, named.at_ms) == (ANA, BOB, AT - 60_000)
    mine = {"message": {"protocolMessage": {"type": 0, "key": {"id": "T", "participant": jid(MY_NUMBER)}}}}
    assert revoked(after, "NOWEB", _data=mine).author == "me"


def test_a_revoke_that_says_too_little() -> None:
    assert refusal("message.revoked", {"revokedMessageId": "T"}) == ("revoke_missing", "payload.after")
    assert refusal("message.revoked", {"after": {"id": "R1"}}) == ("chat_missing", "payload.after.from")


# ---------------------------------------------------------------- reactions
def reaction(message_id: str, **changes: Any) -> ReactionFact:
    payload = {"id": f"false_{ANA}_R1", "timestamp": S, "reaction": {"text": "👍", "messageId": message_id}} | changes
    return one(ReactionFact, "message.reaction", payload)


def test_a_reaction_reaches_no_other_chat() -> None:
    assert reaction(f"true_{ANA}_T").chat == ANA
    assert (reaction(f"false_{BOB}_T").chat, reaction(f"false_{BOB}_T").author) == (ANA, "")
    assert (reaction(f"false_{GROUP}_T_{BOB}").chat, reaction(f"false_{GROUP}_T_{BOB}").author) == (ANA, None)
    assert reaction(f"true_{STATUS}_T_{MY_NUMBER}").chat == STATUS


def test_whose_message_a_reaction_is_about() -> None:
    group = {"id": f"false_{GROUP}_R1_{BOB}", "participant": BOB}
    assert reaction(f"false_{GROUP}_T_{ANA_LID}", **group).author == ANA_LID
    assert reaction(f"false_{GROUP}_T", **group).author is None
    assert reaction(f"false_{GROUP}_T_{MY_LID}", **group).author == "me"
    assert reaction("T").author is None
    assert reaction(f"true_{MY_NUMBER}_T").author is None  # as the peer sees the chat
    assert reaction(f"false_{GROUP}_T_{ANA}", **group).by == BOB
    assert reaction(f"false_{ANA}_T", id=f"true_{ANA}_R1").by == "me"


def test_a_removal_and_a_fraction_of_a_second() -> None:
    assert reaction("T", reaction={"messageId": "T"}).emoji == ""
    assert reaction("T", reaction={"messageId": "T", "text": None}).emoji == ""
    assert reaction("T", timestamp=1710481111.853).at_ms == 1710481111853
    wrong = {"id": f"false_{ANA}_R1", "reaction": {"messageId": "T", "text": 7}}
    assert refusal("message.reaction", wrong) == ("reaction_text_wrong", "payload.reaction.text")
    assert refusal("message.reaction", {"id": f"false_{ANA}_R1"}) == ("reaction_missing", "payload.reaction")
    missing = {"id": f"false_{ANA}_R1", "reaction": {"text": "x"}}
    assert refusal("message.reaction", missing) == ("message_id_missing", "payload.reaction.messageId")


# ---------------------------------------------------------------- votes and responses
def vote(poll: dict[str, Any], cast: dict[str, Any], event: str = "poll.vote", engine: str = "NOWEB") -> VoteFact:
    given = {"selectedOptions": ["Pizza"], "timestamp": AT}
    return one(VoteFact, event, {"poll": poll, "vote": given | cast}, engine)


OWN_POLL = {"id": f"true_{GROUP}_P1_{MY_NUMBER}"}


@pytest.mark.parametrize(
    ("cast", "voter"),
    [
        ({"id": f"false_{GROUP}_V1_{ANA_LID}", "from": GROUP, "participant": ANA_LID}, ANA_LID),
        ({"id": f"false_{GROUP}_P1_{ANA}", "to": GROUP, "from": ANA}, ANA),
        ({"id": f"true_{GROUP}_P1", "from": ANA, "to": GROUP, "fromMe": False}, ANA),
        ({"id": f"false_{GROUP}_V1_{ANA}", "from": GROUP}, ANA),
        ({"id": f"true_{GROUP}_V1", "from": "me", "to": GROUP}, "me"),
        ({"id": f"false_{GROUP}_V1", "from": MY_LID, "to": GROUP}, "me"),
        ({"id": f"true_{GROUP}_V1", "from": GROUP, "fromMe": True}, "me"),
    ],
    ids=["GOWS", "WEBJS", "WPP", "only the id", "the word me", "my hidden id", "fromMe"],
)
def test_who_voted(cast: dict[str, Any], voter: str) -> None:
    found = vote(OWN_POLL, cast)
    assert (found.voter, found.chat, found.raw_id, found.author) == (voter, GROUP, "P1", "me")


def test_whose_poll_it_is() -> None:
    cast = {"id": f"false_{GROUP}_V1_{ANA}", "from": ANA}
    assert vote({"id": f"false_{GROUP}_P1_{BOB}"}, cast).author == BOB
    assert vote({"id": f"false_{GROUP}_P1"}, cast).author is None
    assert vote({"id": "P1"}, cast).author is None
    elsewhere = vote({"id": f"false_{GROUP}_P1_{BOB}"}, {"id": f"false_{ANA}_V1", "from": ANA})
    assert (elsewhere.chat, elsewhere.author) == (ANA, None)


def test_what_was_voted_and_when() -> None:
    cast = {"id": f"false_{ANA}_V1", "from": ANA, "to": "me"}
    poll = {"id": f"true_{ANA}_P1"}
    assert vote(poll, cast | {"timestamp": S}).at_ms == AT
    assert vote(poll, cast | {"timestamp": None}).at_ms == AT
    assert vote(poll, cast | {"selectedOptions": ["a", "a", 7, "b"]}).options == ("a", "b")
    assert vote(poll, cast | {"selectedOptions": []}).failed is False
    assert vote(poll, cast | {"selectedOptions": None}).failed is True
    failed = vote(poll, cast, "poll.vote.failed")
    assert (failed.failed, failed.options) == (True, ())


def test_votes_that_say_too_little() -> None:
    assert refusal("poll.vote", {}) == ("poll_missing", "payload.poll")
    assert refusal("poll.vote", {"poll": OWN_POLL}) == ("vote_missing", "payload.vote")
    assert refusal("poll.vote", {"poll": OWN_POLL, "vote": {"from": GROUP}}) == ("voter_missing", "payload.vote.from")
    assert refusal("poll.vote", {"poll": {"id": "P1"}, "vote": {}}) == ("chat_missing", "payload.vote.from")
    nameless = {"poll": {}, "vote": {"id": f"false_{ANA}_V1", "from": ANA}}
    assert refusal("poll.vote", nameless) == ("message_id_missing", "payload.poll.id")


def response(
    key: dict[str, Any], answer: dict[str, Any] | None, event: str = "event.response", **changes: Any
) -> ResponseFact:
    payload = {"id": f"false_{ANA}_R1", "timestamp": S, "eventCreationKey": key, "eventResponse": answer} | changes
    return one(ResponseFact, event, payload, "GOWS")


def test_whose_event_is_answered_and_how() -> None:
    going = {"response": "GOING", "timestampMs": AT + 429, "extraGuestCount": 2}
    mine = response({"id": f"false_{MY_NUMBER}_T", "from": MY_NUMBER, "to": "me"}, going)
    assert (mine.chat, mine.raw_id, mine.author, mine.by) == (ANA, "T", "me", ANA)
    assert (mine.response, mine.guests, mine.at_ms, mine.failed) == ("GOING", 2, AT + 429, False)
    group = {"id": f"false_{GROUP}_R1_{ANA}", "participant": ANA}
    assert response({"id": f"false_{GROUP}_T_{BOB}"}, going, **group).author == BOB
    assert response({"id": "T"}, going).author is None
    failed = response({"id": "T"}, None, "event.response.failed")
    assert (failed.failed, failed.response, failed.at_ms) == (True, None, AT)
    assert response({"id": "T"}, {"response": "MAYBE", "extraGuestCount": -5}).guests == 0


def test_a_response_brings_identities() -> None:
    payload = {
        "id": f"false_{ANA_LID}_R1", "eventCreationKey": {"id": "T"}, "eventResponse": {"response": "MAYBE"},
        "_data": {"Info": {"Sender": ANA_LID, "SenderAlt": jid(ANA)}},
    }  # fmt: skip
    assert one(IdentityFact, "event.response", payload, "GOWS").phone == ANA
