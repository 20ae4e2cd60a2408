"""Whom the session met, told by the facts of one event."""

from __future__ import annotations

import pytest

from schemas.facts import (
    AckFact,
    ArchiveFact,
    CallFact,
    EditFact,
    Fact,
    GroupFact,
    MemberFact,
    NameFact,
    PresenceFact,
    RankedContent,
    ReactionFact,
    SeenFact,
)
from schemas.keys import ME as MYSELF
from schemas.keys import PEER
from schemas.normalize.contact import met_in
from schemas.rows import ContentFact

ME = "4915112345678@c.us"
ANA, BOB = "5511988887777@c.us", "447700900123@c.us"
GROUP = "120363040000000001@g.us"
AT_MS = 1_784_973_600_750  # 2026-07-25T10:00:00.750Z
DAY_MS = 1_784_937_600_000


def content(chat: str, sender: str | None, *, from_me: bool = False) -> RankedContent:
    fact = ContentFact(
        "s", chat, sender, None, "", AT_MS, from_me, False, "A1", "text", "hi", None, "app", "Ana", None, None,
        "evt_1", None, 0,
    )  # fmt: skip
    return RankedContent(fact, b"", AT_MS, 0)


def met(*facts: Fact) -> set[tuple[str, bool]]:
    found = met_in(facts)
    assert {(f.session, f.day_ms) for f in found} <= {("s", DAY_MS)}
    assert len(found) == len(set(found))
    return {(f.jid, f.is_me) for f in found}


@pytest.mark.parametrize(
    ("fact", "people"),
    [
        pytest.param(content(ANA, ANA), {(ANA, False)}, id="a direct message"),
        pytest.param(content(GROUP, ANA), {(ANA, False), (GROUP, False)}, id="a message in a group"),
        pytest.param(content(ANA, ME, from_me=True), {(ME, True), (ANA, False)}, id="an own message"),
        pytest.param(content(ANA, None, from_me=True), {(ANA, False)}, id="an own message before pairing"),
        pytest.param(content(ME, ME, from_me=True), {(ME, True)}, id="a note to myself"),
        pytest.param(
            ReactionFact("s", GROUP, "A1", BOB, ANA, "👍", AT_MS, ""), {(GROUP, False), (ANA, False)},
            id="a reaction: its claimed author is not met",
        ),
        pytest.param(
            ReactionFact("s", ANA, "A1", PEER, MYSELF, "👍", AT_MS, ""), {(ANA, False)}, id="an own reaction",
        ),
        pytest.param(EditFact("s", ANA, "A1", PEER, "E1", "hi", AT_MS, "", None), {(ANA, False)}, id="an edit"),
        pytest.param(AckFact("s", GROUP, "A1", MYSELF, BOB, 3, AT_MS), set(), id="a receipt"),
        pytest.param(
            CallFact("s", "C1", ANA, "received", None, GROUP, True, True, AT_MS), {(ANA, False), (GROUP, False)},
            id="a call",
        ),
        pytest.param(CallFact("s", "C1", None, "received", None, None, True, True, AT_MS), set(), id="a nameless call"),
        pytest.param(GroupFact("s", GROUP, "subject", '"x"', AT_MS, ""), {(GROUP, False)}, id="a subject"),
        pytest.param(
            MemberFact("s", GROUP, BOB, "left", ANA, AT_MS, ""), {(GROUP, False), (BOB, False)}, id="a member",
        ),
        pytest.param(ArchiveFact("s", ANA, True, AT_MS, ""), {(ANA, False)}, id="an archived chat"),
        pytest.param(
            PresenceFact("s", GROUP, ANA, "typing", None, AT_MS, ""), {(GROUP, False), (ANA, False)}, id="presence",
        ),
        pytest.param(NameFact("s", ANA, "push", "Ana", AT_MS), set(), id="a name stands beside what its owner does"),
    ],
)  # fmt: skip
def test_who_is_met(fact: Fact, people: set[tuple[str, bool]]) -> None:
    assert met(fact) == people


def test_everybody_once_an_event() -> None:
    settings = [GroupFact("s", GROUP, s, '"x"', AT_MS, "") for s in ("subject", "description", "invite")]
    assert met(*settings, MemberFact("s", GROUP, ANA, "admin", None, AT_MS, "")) == {(GROUP, False), (ANA, False)}


def test_days() -> None:
    late = ArchiveFact("s", ANA, True, DAY_MS + 86_400_000 - 1, "")
    assert met_in([late]) == [SeenFact("s", ANA, False, DAY_MS)]
