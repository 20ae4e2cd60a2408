"""A person's chat under a hidden id and a number: fetched once where WAHA lists both as one, twice where it does not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from pipeline.sync.envelopes import Fetched, Wrapper
from pipeline.sync.history import History
from pipeline.sync.state import Claimed, SyncState
from pipeline.waha import Waha
from pipeline.waha.answers import ChatInfo, LidInfo, Row, SessionInfo
from schemas.sync import ALL_CHATS

PHONE, LID, GROUP = "49151@c.us", "77@lid", "120@g.us"
PAGE_ROWS = 10


def rows(chat: str, seconds: range) -> list[Row]:
    return [Row(f"false_{chat}_R{s}", s, b"{}") for s in seconds]


class Server:
    """A WAHA of one person; `merges` says whether it lists both ids as one chat."""

    def __init__(self, *, merges: bool, phone: list[Row], lid: list[Row]) -> None:
        self._merges = merges
        self._stored = {PHONE: phone, LID: lid}
        self.asked: list[str] = []

    async def messages(self, _: str, chat: str, *, since_s: int, until_s: int, limit: int) -> list[Row]:
        self.asked.append(chat)
        found = [*self._stored[PHONE], *self._stored[LID]] if self._merges else self._stored[chat]
        within = sorted((r for r in found if since_s <= (r.at_s or 0) <= until_s), key=lambda r: r.at_s or 0)
        return within[:limit]

    async def chats(self, _: str, limit: int, offset: int) -> list[ChatInfo]:
        return [ChatInfo(chat, None, None) for chat in (PHONE, LID, GROUP)][offset : offset + limit]

    async def overview(self, _: str, limit: int, offset: int) -> list[ChatInfo]:
        return [ChatInfo(chat, None, 99) for chat in (PHONE, LID, GROUP)][offset : offset + limit]

    async def lids(self, _: str, limit: int, offset: int) -> list[LidInfo]:
        return [LidInfo(LID, PHONE), LidInfo("78@lid", PHONE), LidInfo("79@lid", None)][offset : offset + limit]


class State:
    """Knows both ids, and what was asked for together with this request."""

    def __init__(self, together: set[str], *, knows_twins: bool) -> None:
        self._together, self._knows_twins = together, knows_twins
        self.children: list[str] = []

    async def forms(self, _: str, chat: str) -> list[str]:
        return [chat, LID if chat == PHONE else PHONE]

    async def siblings(self, _: Claimed, chats: Sequence[str]) -> set[str]:
        return self._together & set(chats)

    async def twins(self, _: str, chats: Sequence[str]) -> dict[str, str]:
        return {LID: PHONE} if self._knows_twins and {LID, PHONE} <= set(chats) else {}

    async def spread(self, _: Claimed, chats: Sequence[str]) -> bool:
        self.children += chats
        return True

    async def hash_key(self) -> bytes:
        return b"key"

    async def known(self, *_: Any) -> int:
        return 0

    async def advance(self, *_: Any) -> bool:
        return True


async def fetched(
    server: Server,
    chat: str = PHONE,
    *,
    together: Sequence[str] = (),
    knows_twins: bool = False,
    reason: str = "initial",
) -> tuple[list[Fetched], list[str]]:
    """What a request for the chat publishes, and for which chats it makes requests."""
    published: list[Fetched] = []

    async def publish(records: Sequence[Fetched]) -> None:
        published.extend(records)

    info = SessionInfo("acme", "WORKING", "WEBJS", None, None, None, {})
    claimed = Claimed(2, "r", "acme", chat, "messages", reason, 0, 100, None, None, 0)
    state, wrapper = State(set(together), knows_twins=knows_twins), Wrapper("default", info, "2026.7.1")
    await History(claimed, cast("SyncState", state), cast("Waha", server), wrapper, publish).fetch(PAGE_ROWS)
    return published, state.children


def person(*, merges: bool) -> Server:
    return Server(merges=merges, phone=rows(PHONE, range(50)), lid=rows(LID, range(50, 100)))


async def test_listed_as_one_it_is_walked_once() -> None:
    server = person(merges=True)
    found, _ = await fetched(server)
    assert len({r.value for r in found}) == 100
    assert server.asked.count(LID) == 1
    assert server.asked.count(PHONE) <= 100 // PAGE_ROWS + 5


async def test_listed_apart_both_are_walked() -> None:
    found, _ = await fetched(person(merges=False), LID)
    assert len({r.value for r in found}) == 100


async def test_what_has_a_request_of_its_own_is_left_to_it() -> None:
    server = person(merges=False)
    found, _ = await fetched(server, LID, together=[PHONE])
    assert (len({r.value for r in found}), set(server.asked)) == (50, {LID})


async def test_an_empty_page_says_nothing() -> None:
    found, _ = await fetched(Server(merges=False, phone=[], lid=rows(LID, range(20))))
    assert len({r.value for r in found}) == 20


@pytest.mark.parametrize(("merges", "chats"), [(True, [PHONE, GROUP]), (False, [PHONE, LID, GROUP])])
@pytest.mark.parametrize(("knows_twins", "reason"), [(True, "manual"), (False, "initial"), (True, "periodic")])
async def test_one_request_for_what_is_listed_as_one(
    merges: bool, chats: list[str], knows_twins: bool, reason: str
) -> None:
    assert await fetched(person(merges=merges), ALL_CHATS, knows_twins=knows_twins, reason=reason) == ([], chats)
