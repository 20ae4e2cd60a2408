"""The client of WAHA's REST against the simulated WAHA: every call on every engine, every bad answer, limits and retries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import orjson
import pytest

from pipeline.waha import Limits, Waha, WahaClient
from pipeline.waha.errors import (
    EngineError,
    KeyRefusedError,
    NotThereError,
    RefusedError,
    SessionNotReadyError,
    StoreDisabledError,
    TooLargeError,
    WahaAwayError,
)
from producers.simulator import ENGINES, Engine
from producers.simulator.rest import Past, RestServer, SimulatedWaha
from producers.simulator.rest.world import SimulatedSession
from tests.simulated_waha import served

KEY = "a-key-of-the-tests"
BY_ENGINE = {engine: f"demo-{n:02d}" for n, engine in enumerate(ENGINES, start=1)}


class Waits:
    """Sleeps not at all and remembers how long it should have."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    async def __call__(self, delay_s: float) -> None:
        if delay_s:
            self.asked.append(delay_s)
        await asyncio.sleep(0)


@pytest.fixture
def server() -> RestServer:
    return RestServer(SimulatedWaha(Past(messages=120, chats=6, hidden=0.2)), KEY)


@pytest.fixture
async def url(server: RestServer) -> AsyncIterator[str]:
    async with served(server) as at:
        yield at


@pytest.fixture
async def waha(url: str) -> AsyncIterator[Waha]:
    async with WahaClient(url, KEY, Limits(rate_per_s=10_000)) as client:
        yield Waha(client)


async def client_of(url: str, waits: Waits, limits: Limits, key: str = KEY) -> Waha:
    return Waha(WahaClient(url, key, limits, sleep=waits))


async def test_the_server_and_its_sessions(waha: Waha, server: RestServer) -> None:
    version = await waha.version()
    assert (version.version, version.tier) == ("2026.7.1", "CORE")
    sessions = {s.name: s for s in await waha.sessions()}
    assert sessions.keys() == server.waha.sessions.keys()
    for engine, name in BY_ENGINE.items():
        me = server.waha.sessions[name].account.me
        told = await waha.session(name)
        assert told is not None
        assert (told.engine, told.status, told.me, told.me_lid, told.push_name) == (
            engine,
            "WORKING",
            me.id,
            me.lid,
            me.name,
        )
        assert sessions[name]._replace(config={}) == told._replace(config={})


async def test_stopped_sessions_are_listed_too(waha: Waha, server: RestServer) -> None:
    server.waha.sessions["demo-02"].status = "STOPPED"
    assert {s.name: s.status for s in await waha.sessions()}["demo-02"] == "STOPPED"


@pytest.mark.parametrize("engine", ENGINES)
async def test_chats_of_every_engine_have_the_ids_of_their_messages(
    waha: Waha, server: RestServer, engine: Engine
) -> None:
    session = server.waha.sessions[BY_ENGINE[engine]]
    chats = [*await waha.chats(BY_ENGINE[engine], 3, 0), *await waha.chats(BY_ENGINE[engine], 100, 3)]
    assert sorted(c.id for c in chats) == sorted(c.id for c in session.chats)
    newest = {c.id: newest_of(session, c.id) for c in session.chats}
    assert {c.id: c.at_s for c in chats} == newest
    assert {c.id: c.at_s for c in await waha.overview(BY_ENGINE[engine], 100, 0)} == newest


def newest_of(session: SimulatedSession, chat: str) -> int | None:
    return max((m.timestamp for m in session.by_raw_id.values() if m.chat.id == chat), default=None)


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_page_of_messages(waha: Waha, server: RestServer, engine: Engine) -> None:
    name = BY_ENGINE[engine]
    session = server.waha.sessions[name]
    chat = max(session.chats, key=lambda c: len(session.by_chat[c.id].rows)).id
    shown = [r.message for r in session.by_chat[chat].rows if not r.hidden]
    rows = await waha.messages(name, chat, since_s=0, until_s=2**31, limit=1000)
    found = {r.id: r for r in rows}
    assert {m.id for m in shown} <= found.keys()
    for message in shown:
        row = found[message.id]
        assert row.at_s == message.timestamp
        body = orjson.loads(row.body)
        assert body["id"] == message.id
        assert body["media"] is None
    assert [r.at_s for r in rows] == sorted(r.at_s or 0 for r in rows)
    assert server.files.downloads == 0
    middle = shown[len(shown) // 2].timestamp
    part = await waha.messages(name, chat, since_s=middle, until_s=middle, limit=1000)
    assert {r.at_s for r in part} == {middle}


async def test_pages_may_be_short_while_more_follow(waha: Waha, server: RestServer) -> None:
    rows = [
        r
        for n in range(0, 200, 10)
        for r in await waha.messages("demo-03", "all", since_s=0, until_s=2**31, limit=10, offset=n)
    ]
    pages = [
        await waha.messages("demo-03", "all", since_s=0, until_s=2**31, limit=10, offset=n) for n in range(0, 100, 10)
    ]
    assert min(len(p) for p in pages[:5]) < 10
    assert len(rows) >= 100


async def test_only_two_engines_have_all_chats(waha: Waha) -> None:
    found = {e: len(await waha.messages(n, "all", since_s=0, until_s=2**31, limit=9)) for e, n in BY_ENGINE.items()}
    assert {e for e, n in found.items() if n} == {"NOWEB", "GOWS"}


@pytest.mark.parametrize("engine", ENGINES)
async def test_people_groups_members_lids_labels(waha: Waha, server: RestServer, engine: Engine) -> None:
    name = BY_ENGINE[engine]
    session = server.waha.sessions[name]
    people = {p.id: p for p in session.people}
    contacts = await waha.contacts(name, 1000, 0)
    assert {c.id: c.name for c in contacts} == {i: p.name for i, p in people.items()}
    assert {c.lid for c in contacts} == ({p.lid for p in people.values()} if engine == "NOWEB" else {None})
    groups = await waha.groups(name, 1000, 0)
    chats = {c.id: c for c in session.chats if c.group}
    assert {g.id: g.subject for g in groups} == {i: c.subject for i, c in chats.items()}
    for group in groups:
        chat = chats[group.id]
        assert {m.id: (m.phone, m.role) for m in await waha.members(name, group.id)} == {
            chat.address(p): (p.id, "participant") for p in chat.members
        }
    lids = await waha.lids(name, 5, 0) + await waha.lids(name, 1000, 5)
    assert {one.lid: one.phone for one in lids} == {p.lid: p.id for p in people.values()}
    labels = await waha.labels(name)
    assert labels[0].name == "Lead 🔥"
    labelled = [c.id for label in labels for c in await waha.label_chats(name, label.id)]
    assert sorted(labelled) == sorted(c.id for c in session.chats)


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_message_by_id_brings_its_file_back(waha: Waha, server: RestServer, engine: Engine) -> None:
    name = BY_ENGINE[engine]
    message = next(m for m in server.waha.sessions[name].by_raw_id.values() if m.content.has_media)
    plain = await waha.message(name, message.chat.id, message.id)
    assert plain is not None
    assert plain.has_media
    assert plain.media is not None
    assert plain.media.url is None
    fresh = await waha.message(name, message.chat.id, message.id, download_media=True)
    assert fresh is not None
    assert fresh.media is not None
    assert fresh.media.url is not None
    assert fresh.media.url.startswith("http://localhost:3000/api/files/")
    assert server.files.downloads == 1
    with pytest.raises(NotThereError):
        await waha.message(name, message.chat.id, "false_1@c.us_NOTHING")


async def test_a_wrong_key(url: str) -> None:
    waits = Waits()
    waha = await client_of(url, waits, Limits(), "wrong")
    async with waha.client:
        with pytest.raises(KeyRefusedError, match="WHATSAPP_API_KEY"):
            await waha.sessions()
    assert waits.asked == []


async def test_a_session_that_does_not_work(waha: Waha, server: RestServer) -> None:
    server.waha.sessions["demo-03"].status = "SCAN_QR_CODE"
    with pytest.raises(SessionNotReadyError) as caught:
        await waha.messages("demo-03", "all", since_s=0, until_s=1, limit=10)
    assert caught.value.status == "SCAN_QR_CODE"
    with pytest.raises(SessionNotReadyError):
        await waha.chats("nobody", 10, 0)


async def test_a_store_that_is_off(waha: Waha, server: RestServer) -> None:
    server.waha.sessions["demo-03"].store_enabled = False
    with pytest.raises(StoreDisabledError, match=r"config\.noweb\.store\.enabled"):
        await waha.messages("demo-03", "all", since_s=0, until_s=1, limit=10)


async def test_a_bad_request_is_not_repeated(waha: Waha, server: RestServer) -> None:
    server.faults.add("status", status=400)
    with pytest.raises(RefusedError):
        await waha.sessions()


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 503}, {"kind": "status", "status": 500}, {"kind": "status", "status": 429},
        {"kind": "status", "status": 502, "html": True}, {"kind": "status", "status": 200, "html": True},
        {"kind": "status", "status": 404, "html": True}, {"kind": "drop"}, {"kind": "not_json"},
    ],
    ids=lambda f: "-".join(str(v) for v in f.values()),
)  # fmt: skip
async def test_what_passes_is_tried_again(url: str, server: RestServer, fault: dict[str, object]) -> None:
    waits = Waits()
    waha = await client_of(url, waits, Limits(rate_per_s=10_000))
    async with waha.client:
        server.faults.add(times=2, **fault)  # type: ignore[arg-type]
        assert len(await waha.sessions()) == len(ENGINES)
    assert len(waits.asked) == 2
    assert all(0 < s <= 10 for s in waits.asked)


async def test_retry_after_is_obeyed(url: str, server: RestServer) -> None:
    waits = Waits()
    waha = await client_of(url, waits, Limits(rate_per_s=10_000))
    async with waha.client:
        server.faults.add("status", status=429, retry_after="17", times=1)
        await waha.sessions()
        server.faults.add("status", status=429, retry_after="Wed, 21 Oct 2015 07:28:00 GMT", times=1)
        await waha.sessions()
    assert waits.asked[0] == 17
    assert waits.asked[1] < 1


async def test_an_engine_that_fails_is_told_apart_and_opens_no_breaker(url: str, server: RestServer) -> None:
    waits = Waits()
    waha = await client_of(url, waits, Limits(rate_per_s=10_000, deadline_s=0.05))
    async with waha.client:
        server.faults.add("status", "/messages", status=500)
        for _ in range(8):
            with pytest.raises(EngineError):
                await waha.messages("demo-03", "all", since_s=0, until_s=1, limit=10)
        assert len(await waha.sessions()) == len(ENGINES)


async def test_a_server_that_is_away_is_left_alone(url: str, server: RestServer) -> None:
    waits = Waits()
    waha = await client_of(url, waits, Limits(rate_per_s=10_000, deadline_s=0.01))
    async with waha.client:
        rule = server.faults.add("status", status=503, html=True)
        before = rule.times = 100
        for _ in range(20):
            with pytest.raises(WahaAwayError):
                await waha.sessions()
        assert before - (rule.times or 0) == 5


async def test_too_slow(url: str, server: RestServer) -> None:
    waha = await client_of(url, Waits(), Limits(timeout_s=0.05, deadline_s=0.01))
    async with waha.client:
        server.faults.add("delay", delay_s=5)
        with pytest.raises(WahaAwayError, match="Timeout"):
            await waha.sessions()


async def test_too_large(url: str) -> None:
    waha = await client_of(url, Waits(), Limits(max_answer_bytes=5000))
    async with waha.client:
        with pytest.raises(TooLargeError):
            await waha.messages("demo-03", "all", since_s=0, until_s=2**31, limit=100)


async def test_nobody_there() -> None:
    async with WahaClient("http://127.0.0.1:9", KEY, Limits(deadline_s=0.01), sleep=Waits()) as client:
        with pytest.raises(WahaAwayError):
            await Waha(client).sessions()


async def test_so_many_at_a_time_and_no_more(url: str, server: RestServer) -> None:
    """A fault that holds requests up shows how many there are at once."""
    waha = await client_of(url, Waits(), Limits(concurrency=2, rate_per_s=10_000))
    async with waha.client:
        slots = waha.client._slots
        most = 0
        server.faults.add("delay", delay_s=0.02)

        async def call() -> None:
            nonlocal most
            await waha.sessions()
            most = max(most, 2 - slots._value)

        await asyncio.gather(*(call() for _ in range(8)))
        assert most <= 2
        assert server.requests["/api/sessions"] == 8


async def test_the_rate_can_be_changed(url: str) -> None:
    waits = Waits()
    waha = await client_of(url, waits, Limits(rate_per_s=1))
    async with waha.client:
        await waha.sessions()
        await waha.sessions()
        assert len(waits.asked) == 1
        waha.client.set_rate(10_000)
        await waha.sessions()
        assert len(waits.asked) == 1
