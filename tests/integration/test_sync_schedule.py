"""The scheduler in the sync process: a new session is fetched by itself, gaps are found, asked for and closed; `wapipe sync`."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from producers.simulator.envelopes import me_of
from producers.simulator.rest import Past, RestServer, SimulatedWaha
from tests.integration.synced import Synced, synced
from tests.site import until
from tests.warm import wapipe


def recent(**more: Any) -> Past:
    """A history that lies within the usual look-back."""
    return Past(sessions=4, chats=4, messages=60, days=3, end_s=int(time.time()) - 60, **more)


async def command(site: Synced, *arguments: str) -> tuple[int, str]:
    """`wapipe sync …` in the site's environment: exit code and output."""
    code, output, errors = await wapipe("sync", *arguments, env=site.environment)
    return code, output + errors


async def gaps(site: Synced) -> list[dict[str, Any]]:
    return [dict(r) for r in await site.pool.fetch("SELECT * FROM whatsapp_gateway.sync_gaps ORDER BY id")]


async def test_sessions_are_fetched_by_themselves_and_looked_back_at(
    settings_env: dict[str, str], tmp_path: Path
) -> None:
    server = RestServer(SimulatedWaha(recent()))
    async with synced(
        settings_env, server, tmp_path, WHATSAPP_SYNC_ENABLED="true", WHATSAPP_SYNC_INTERVAL_MS="1000"
    ) as site:

        async def all_there() -> bool | None:
            return True if await site.stored() == site.truth() else None

        await until(all_there, "every session's past")

        # A message that no webhook tells of: the next look-back finds it, and says that it was missed.
        session = server.waha.sessions["demo-03"]
        message = next(iter(session.by_raw_id.values()))
        session.add(replace(message, raw_id="ACUNTOLD", at_ms=int(time.time()) * 1000 - 2000))
        await until(all_there, "the message that no webhook told of")

        async def missed() -> bool | None:
            found = [g for g in await gaps(site) if g["cause"] == "missed" and g["session"] == "demo-03"]
            return True if found and found[0]["found"] >= 1 else None

        await until(missed, "the note of what was missed")


async def test_a_gap_is_found_asked_for_and_closed(settings_env: dict[str, str], tmp_path: Path) -> None:
    past = recent(engines=("NOWEB",))
    server = RestServer(SimulatedWaha(past))
    name, other = "demo-01", "demo-02"
    async with synced(
        settings_env,
        server,
        tmp_path,
        processes=("gateway", "sync", "messages", "sessions"),
        WHATSAPP_SYNC_ENABLED="true",
    ) as site:
        session = server.waha.sessions[name]
        now_ms = int(time.time() * 1000)
        for number, (status, ago_s) in enumerate(
            (("WORKING", 9000), ("FAILED", 7200), ("STARTING", 6000), ("WORKING", 5400))
        ):
            body = {
                "id": f"evt_{number:026d}", "timestamp": now_ms - ago_s * 1000, "event": "session.status", "session": name,
                "me": me_of(session.account), "payload": {"name": name, "status": status}, "engine": "NOWEB",
            }  # fmt: skip
            assert (await site.site.post(orjson.dumps(body))).status_code == 200

        async def closed() -> dict[str, Any] | None:
            found = [g for g in await gaps(site) if g["cause"] == "not_working" and g["status"] == "closed"]
            return found[0] if found else None

        gap = await until(closed, "the gap to be closed", 120)
        assert gap["session"] == name
        assert gap["until_s"] - gap["since_s"] == 7200 - 5400
        assert json.loads(gap["evidence"]) == {"statuses": ["FAILED", "STARTING"]}

        async def complete() -> bool | None:
            answer = await site.site.get(f"/api/coverage/{other}")
            return True if answer["complete"] == "true" else None

        await until(complete, "coverage to be complete")
        answer = await site.site.get(f"/api/coverage/{name}/{session.chats[0].id}")
        assert answer["complete"] in ("true", "false")
        assert (await site.site.get("/api/coverage/nobody"))["complete"] == "unknown"
        code, text = await command(site, "coverage", other, "--json")
        assert (code, json.loads(text)[other]["complete"]) == (0, "true")


async def test_the_commands(settings_env: dict[str, str], tmp_path: Path) -> None:
    past = Past(engines=("NOWEB",), sessions=1, messages=400, chats=5)
    server = RestServer(SimulatedWaha(past))
    async with synced(
        settings_env, server, tmp_path, WHATSAPP_SYNC_BATCH_SIZE="20", WHATSAPP_SYNC_ENABLED="false"
    ) as site:
        since, end = "2026-07-18T09:00", "2026-07-25T10:00"
        code, text = await command(site, "coverage")
        assert code == 0
        code, text = await command(site, "start", "demo-01", "--since", since, "--until", end, "--json")
        assert code == 0, text
        server.faults.add("delay", "/messages", delay_s=0.2)
        await site.has_pages(3)
        code, text = await command(site, "stop", "demo-01")
        assert (code, text.strip()) == (0, "stopped 1 requests")
        [row] = await site.states()
        assert row["status"] == "stopped"
        pages = row["pages"]
        code, text = await command(site, "coverage", "demo-01")
        assert code == 1
        assert "unknown" in text
        server.faults.clear()
        code, text = await command(site, "resume", "demo-01")
        assert (code, text.strip()) == (0, "resumed 1 requests")
        [row] = await site.ended(1)
        assert row["status"] == "completed"
        assert row["pages"] > pages
        assert await site.stored() == site.truth()
        code, text = await command(site, "status", "--json")
        assert json.loads(text)[0]["status"] == "completed"
        code, text = await command(site, "coverage", "demo-01", "--json")
        assert code == 0
        assert json.loads(text)["demo-01"]["complete"] == "true"
        code, text = await command(site, "start", "demo-01", "--chat", "nonsense")
        assert code == 2
        code, text = await command(site, "start", "demo-01", "--since", "yesterday")
        assert code == 2


async def test_fetching_is_held_and_paced(settings_env: dict[str, str], tmp_path: Path) -> None:
    server = RestServer(SimulatedWaha(Past(engines=("NOWEB",), sessions=2, messages=50)))
    async with synced(settings_env, server, tmp_path, processes=("sync",), WHATSAPP_SYNC_ENABLED="false") as site:
        assert (await command(site, "stop"))[0] == 0

        async def held() -> bool | None:
            return True if (await site.site.scrape("sync")).total("wapipe_sync_held", reason="stopped") == 1 else None

        await until(held, "fetching to be held")
        assert (await command(site, "start", "demo-01", "--days", "3650"))[0] == 0

        async def there() -> bool | None:
            return True if await site.states() else None

        await until(there, "the request")
        assert (await command(site, "rate", "10000"))[0] == 0
        [row] = await site.states()
        assert (row["status"], row["pages"]) == ("pending", 0)
        assert (await command(site, "resume"))[0] == 0
        [row] = await site.ended(1)
        assert row["status"] == "completed"
