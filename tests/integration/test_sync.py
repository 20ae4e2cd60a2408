"""The sync consumer as a process, on real Kafka and PostgreSQL, against the simulated WAHA: what it fetches is the truth."""

from __future__ import annotations

import asyncio
from pathlib import Path

from producers.simulator.facts import Message
from producers.simulator.rest import Past, RestServer, SimulatedSession, SimulatedWaha
from schemas.sync import make_request
from schemas.topics import BACKFILL
from tests.integration.synced import Synced, synced, whole
from tests.site import until


def listed_once(session: SimulatedSession) -> set[str]:
    """Its chats, without those that come with another one: a person's hidden id beside his number."""
    numbers = {chat.id for chat in session.chats}
    return {c.id for c in session.chats if not (c.lid and c.peer and c.peer.id in numbers)}


async def test_a_history_with_every_trap_is_fetched_completely(settings_env: dict[str, str], tmp_path: Path) -> None:
    """Four engines, twins under hidden ids and numbers, hidden rows, seconds larger than a page."""
    past = Past(sessions=4, chats=8, messages=260, hidden=0.2, lid=0.5, same_second=60)
    server = RestServer(SimulatedWaha(past))
    async with synced(settings_env, server, tmp_path, WHATSAPP_SYNC_BATCH_SIZE="25") as site:
        await site.ask_all()
        rows = await site.ended(4)
        assert {r["status"] for r in rows} == {"completed"}
        assert await site.stored() == site.truth()
        sweeps = [r for r in rows if r["session"] in ("demo-03", "demo-04")]
        assert [(r["chat"], r["seen"], r["new"]) for r in sweeps] == [("all", 260, 260)] * 2
        # WEBJS and WPP are asked chat by chat.
        chats = {s: listed_once(server.waha.sessions[s]) for s in ("demo-01", "demo-02")}
        assert {s: {r["chat"] for r in rows if r["session"] == s} - {"all"} for s in chats} == chats
        assert server.files.downloads == 0

        await site.ask_all()  # once more: the same records, so nothing new, and the same requests
        assert len(await site.ended(4)) == len(rows)
        assert await site.stored() == site.truth()


async def test_the_same_request_twice_is_one(settings_env: dict[str, str], tmp_path: Path) -> None:
    server = RestServer(SimulatedWaha(Past(engines=("NOWEB",), sessions=1, messages=50)))
    async with synced(settings_env, server, tmp_path) as site:
        one = whole("demo-01", server)
        await asyncio.gather(*(site.ask(one) for _ in range(5)))
        [row] = await site.ended(1)
        assert (row["seen"], row["new"], row["status"]) == (50, 50, "completed")
        await site.ask(one)
        other = make_request("demo-01", "manual", one.since_s, one.until_s - 1)
        await site.ask(other)
        rows = await site.ended(2)
        assert [r["request_id"] for r in rows] == [one.request_id, other.request_id]
        assert rows[1]["new"] == 0


async def test_a_killed_consumer_goes_on_at_its_cursor(settings_env: dict[str, str], tmp_path: Path) -> None:
    past = Past(engines=("GOWS",), sessions=1, messages=600, chats=10)
    server = RestServer(SimulatedWaha(past))
    async with synced(settings_env, server, tmp_path, WHATSAPP_SYNC_BATCH_SIZE="20", WAPIPE_SYNC_LEASE_S="1") as site:
        server.faults.add("delay", "/messages", delay_s=0.1)
        await site.ask(whole("demo-01", server))
        for pages in (5, 12):
            await site.has_pages(pages)
            await site.kill("sync")
            await site.start("sync")
        server.faults.clear()
        [row] = await site.ended(1)
        assert row["status"] == "completed"
        assert await site.stored() == site.truth()
        # Least: 600 messages in pages of 20, among them a tenth of hidden rows; a kill costs one page at most.
        least = -(-len(server.waha.sessions["demo-01"].all.rows) // 20)
        assert server.requests["/api/{session}/chats/{chat}/messages"] <= 1.3 * least


async def test_waha_goes_away_in_the_middle(settings_env: dict[str, str], tmp_path: Path) -> None:
    past = Past(engines=("NOWEB",), sessions=1, messages=300)
    server = RestServer(SimulatedWaha(past))
    async with synced(
        settings_env,
        server,
        tmp_path,
        WHATSAPP_SYNC_BATCH_SIZE="20",
        WAPIPE_WAHA_DEADLINE_S="1",
        WAPIPE_WAHA_TIMEOUT_S="2",
    ) as site:
        held = server.faults.add("delay", "/messages", delay_s=0.1)
        await site.ask(whole("demo-01", server))
        await site.has_pages(4)
        away = server.faults.add("status", status=502, html=True)
        server.faults.rules.remove(held)

        async def waits() -> str | None:
            [row] = await site.states()
            return str(row["error"]) if row["status"] == "waiting" else None

        assert "502" in await until(waits, "the request to wait")
        server.faults.rules.remove(away)
        [row] = await site.ended(1)
        assert row["status"] == "completed"
        assert await site.stored() == site.truth()


async def test_a_session_that_is_not_ready_waits_and_a_store_that_is_off_is_said(
    settings_env: dict[str, str], tmp_path: Path
) -> None:
    server = RestServer(SimulatedWaha(Past(engines=("NOWEB",), sessions=3, messages=30)))
    server.waha.sessions["demo-01"].status = "SCAN_QR_CODE"
    server.waha.sessions["demo-02"].store_enabled = False
    async with synced(settings_env, server, tmp_path, processes=("sync",)) as site:
        await site.ask_all()
        await site.ask(make_request("nobody", "manual", 0, 1), make_request("oslo:acme", "manual", 0, 1))

        async def told() -> dict[str, tuple[str, str]] | None:
            rows = await site.states()
            found = {r["session"]: (r["status"], str(r["error"] or "")) for r in rows}
            return (
                found if len(found) == 5 and all(s not in ("pending", "running") for s, _ in found.values()) else None
            )

        found = await until(told, "every request to end or wait")
        assert found["demo-01"] == ("waiting", "waha is away: the session is SCAN_QR_CODE")
        assert found["demo-02"][0] == "failed"
        assert "config.noweb.store.enabled=true" in found["demo-02"][1]
        assert found["demo-03"] == ("completed", "")
        assert found["nobody"][0] == "failed"
        assert found["oslo:acme"][0] == "failed"
        assert "WAPIPE_WAHA_SOURCE_URLS" in found["oslo:acme"][1]


async def test_what_the_webhook_brought_first_is_only_filled_in(settings_env: dict[str, str], tmp_path: Path) -> None:
    """Half of the history comes by webhook; the sync finds the rest, and changes no row that was there."""
    past = Past(sessions=4, messages=120, chats=5, lid=0.0)
    server = RestServer(SimulatedWaha(past))
    async with synced(settings_env, server, tmp_path, processes=("gateway", "sync", "messages")) as site:
        told = list(server.tell(0.5))
        for delivery in told:
            assert (await site.site.post(delivery.body)).status_code == 200
        await site.site.settled(len(told))
        before = {r["message_id"]: dict(r) for r in await site.pool.fetch("SELECT * FROM whatsapp_gateway.messages")}
        assert len(before) == len(told)
        await site.ask_all()
        rows = await site.ended(4)
        assert await site.stored() == site.truth()
        after = {r["message_id"]: dict(r) for r in await site.pool.fetch("SELECT * FROM whatsapp_gateway.messages")}
        assert {i: after[i] for i in before} == before
        fetched = [r for i, r in after.items() if i not in before]
        assert {(r["topic"], r["lane"]) for r in fetched} == {(BACKFILL.name, 1)}
        assert sum(r["new"] for r in rows if not r["spread"]) == len(fetched)


async def test_an_edit_that_no_webhook_told_is_shown(settings_env: dict[str, str], tmp_path: Path) -> None:
    """Messages come by webhook, of their edits a half; then the history is fetched. GOWS' store knows of none: there all came."""
    past = Past(sessions=4, messages=60, chats=4, edited=0.5, media=0.0)
    server = RestServer(SimulatedWaha(past))
    sessions = server.waha.sessions
    async with synced(settings_env, server, tmp_path, processes=("gateway", "sync", "messages")) as site:
        deliveries = [d for _, d in server.waha.webhooks()]
        edits = [d for d in deliveries if d.event == "message.edited"]
        lost = {id(d) for d in edits[::2] if sessions[d.session].account.engine != "GOWS"}
        told = [d for d in deliveries if id(d) not in lost]
        for delivery in told:
            assert (await site.site.post(delivery.body)).status_code == 200
        await site.site.settled(len(told))
        before = await shown_texts(site)
        missing = {i for s in sessions.values() for i, m in s.truth().items() if before[i] != final_text(s, m)}
        assert len(missing) > len(lost) / 3  # of two edits of a message the last one counts
        await site.ask_all()
        await site.ended(4)
        await site.stored()
        after = await shown_texts(site)
        assert after == {i: final_text(s, m) for s in sessions.values() for i, m in s.truth().items()}
        assert {i: after[i] for i in before.keys() - missing} == {i: before[i] for i in before.keys() - missing}


def final_text(session: SimulatedSession, message: Message) -> str | None:
    """What a reader must find."""
    asked = message.content.kind == "poll" and message.account.engine == "WEBJS"  # the question stands in the body
    return session.edited_text(message) or (message.content.text if asked else message.content.body)


async def shown_texts(site: Synced) -> dict[str, str | None]:
    """By serialized id, as the API shows them."""
    found: dict[str, str | None] = {}
    for name, session in site.server.waha.sessions.items():
        for chat in {chat.id for chat in session.chats}:
            # A person under two ids is one chat, shown under one of them: ids are told by what follows the chat.
            rows = {m["id"].split("_")[2]: m["text"] for m in await site.site.messages(name, chat)}
            found |= {m.id: rows[m.raw_id] for m in session.truth().values() if m.chat.id == chat}
    return found
