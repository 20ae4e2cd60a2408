"""`wapipe waha` against a simulated WAHA that really delivers: set, checked, refused, and what cannot be reached."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.local.ports import free_port
from producers.simulator.rest import Past, RestServer, SimulatedWaha
from tests.integration.synced import Synced, synced
from tests.site import until
from tests.warm import wapipe


async def command(site: Synced, *arguments: str, **more: str) -> tuple[int, str]:
    """`wapipe waha …` in the site's environment: exit code and output."""
    code, output, errors = await wapipe("waha", *arguments, env=site.environment | more)
    return code, output + errors


def wrongs(output: str) -> list[tuple[str, str]]:
    return [(row["session"], row["setting"]) for row in json.loads(output) if row["wrong"]]


def restarts(server: RestServer) -> int:
    return server.requests["/api/sessions/{session}/{act}"]


async def test_a_server_is_connected(settings_env: dict[str, str], tmp_path: Path) -> None:
    server = RestServer(SimulatedWaha(Past(engines=("NOWEB", "GOWS"), sessions=3, chats=2, messages=2)))
    sessions = server.waha.sessions
    sessions["demo-02"].config = {
        "webhooks": [{"url": "http://crm/hook", "events": ["message"]}],
        "metadata": {"a": "b"},
    }
    sessions["demo-03"].status = "STOPPED"
    async with synced(settings_env, server, tmp_path, processes=("gateway", "sessions")) as site:
        url = site.environment["WAPIPE_WAHA_URL"]
        code, output = await command(site, "check", "--json")
        assert code == 1
        assert {(f"demo-0{n}", "webhook") for n in (1, 2, 3)} | {("demo-03", "state")} == set(wrongs(output))

        code, output = await command(site, "connect", url, "--dry-run", "--json")
        assert code == 0
        assert {p["session"]: p["restarts"] for p in json.loads(output)} == {
            "demo-01": True, "demo-02": True, "demo-03": False,
        }  # fmt: skip
        key = site.site.settings.ingress.hmac_key
        assert key is not None
        assert key.get_secret_value() not in output
        assert not sessions["demo-01"].config

        code, output = await command(site, "connect", url, "--json")
        assert (code, wrongs(output)) == (1, [("demo-03", "state")])  # set, but a stopped session gets nothing
        hooks: list[dict[str, Any]] = sessions["demo-02"].config["webhooks"]
        assert [hook["url"] for hook in hooks] == ["http://crm/hook", f"{site.site.settings.origin}/webhook"]
        assert sessions["demo-02"].config["metadata"] == {"a": "b"}

        # What was delivered is stored; so a webhook that REST does not show is known by its events.
        async def heard() -> bool | None:
            rows = await site.pool.fetch("SELECT name FROM whatsapp_gateway.sessions WHERE last_event_at IS NOT NULL")
            return {r["name"] for r in rows} >= {"demo-01", "demo-02"} or None

        await until(heard, "both sessions to be heard of")
        sessions["demo-03"].status = "WORKING"
        assert (await command(site, "check"))[0] == 0
        sessions["demo-01"].config = {}
        code, output = await command(site, "check", "--json")
        assert (code, wrongs(output)) == (0, [])

        assert (await command(site, "connect", url, "--json"))[0] == 0
        before = restarts(server)
        code, output = await command(site, "connect", url, "--test")
        assert (code, restarts(server) - before) == (0, 3), output
        code, output = await command(site, "sessions", "--json")
        assert [s["session"] for s in json.loads(output)] == ["demo-01", "demo-02", "demo-03"]
        assert key.get_secret_value() not in output


async def test_what_cannot_be_reached_or_is_refused(settings_env: dict[str, str], tmp_path: Path) -> None:
    server = RestServer(SimulatedWaha(Past(engines=("GOWS",), sessions=1, chats=2, messages=2)))
    async with synced(settings_env, server, tmp_path, processes=()) as site:
        url = site.environment["WAPIPE_WAHA_URL"]
        nobody = f"http://127.0.0.1:{free_port()}/webhook"
        code, output = await command(site, "connect", url, "--webhook", nobody, "--patience", "1", "--json")
        assert (code, wrongs(output)) == (1, [("demo-01", "webhook")])
        assert "nothing of it came" in output

        code, output = await command(site, "check", WHATSAPP_API_KEY="another key")
        assert code == 78
        assert "the API key is wrong" in output
        code, output = await command(site, "connect", "http://waha.example")
        assert code == 78
        assert "WAPIPE_WAHA_URL=http://waha.example" in output
