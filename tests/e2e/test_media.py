"""Files of all four engines through real processes: told by webhook, served by the simulated WAHA, read through the API.

The media process is killed in the middle, some files are gone at first, and every file ends in S3 all the same.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx

from pipeline.postgres import open_pool
from producers.simulator import Target, play
from producers.simulator.files import file_of
from producers.simulator.rest import Past, RestServer, SimulatedWaha
from tests.conftest import make_environment
from tests.simulated_waha import served
from tests.site import Site, end_process, running, start_process, until, wait_ready
from tests.stack import Servers
from tests.warm import wapipe

KEY = "key-of-the-simulated-waha"


async def command(environment: dict[str, str], *arguments: str) -> tuple[int, str]:
    code, output, _ = await wapipe("media", *arguments, env=environment)
    return code, output


async def status(environment: dict[str, str]) -> Any:
    code, output = await command(environment, "status", "--json")
    assert code == 0
    return json.loads(output)


async def pictures(site: Site, count: int) -> None:
    """As many pictures as the API names are what the simulated WhatsApp sent."""
    items = (await site.get("/api/media?state=stored&limit=500"))["items"]
    async with httpx.AsyncClient() as store:
        for item in [i for i in items if i["type"] == "image"][:count]:
            answer = await site.http.get(item["link"])
            assert answer.status_code == 302
            data = (await store.get(answer.headers["location"])).content
            raw_id = item["message"].split("_")[2]
            assert data == file_of(raw_id, "image")
            assert hashlib.sha256(data).hexdigest() == item["sha256"]
            chat = item["message"].split("_")[1]
            message = await site.get(f"/api/messages/{item['session']}/{chat}/{item['message']}")
            assert message["media"]["link"] == item["link"]


async def test_files_of_every_engine_are_stored_and_read_back(servers: Servers, tmp_path: Path) -> None:
    waha = RestServer(SimulatedWaha(Past(sessions=4, chats=4, messages=60, media=0.4, twins=0)), KEY)
    waha.faults.add("gone", share=0.2, times=15)
    waha.faults.add("truncated", share=0.2, times=5)
    waha.faults.add("slow", share=0.5, delay_s=0.2)
    async with served(waha) as url, AsyncExitStack() as stack:
        environment = await make_environment(servers) | {
            "WAPIPE_WAHA_URL": url, "WHATSAPP_API_KEY": KEY, "WAPIPE_MEDIA_LEASE_S": "2", "WAPIPE_MEDIA_ASK_BACKOFF_S": "0",
            "WAPIPE_MEDIA_ASK_RATE_PER_S": "50",
        }  # fmt: skip
        async with running(environment, tmp_path, "gateway", "messages", "media") as site:
            deliveries = list(waha.tell())
            key = site.settings.ingress.hmac_key
            assert key is not None
            target = Target(f"{site.settings.origin}/webhook", key.get_secret_value())
            pool = await open_pool(site.settings.database, name="test", max_size=1)
            stack.push_async_callback(pool.close)
            report = await play(iter(deliveries), target, concurrency=32)
            assert (report.delivered, report.lost) == (len(deliveries), 0)

            async def begun() -> bool | None:
                stored = "SELECT count(*) FROM whatsapp_gateway.media_downloads WHERE download_status = 'stored'"
                return True if await pool.fetchval(stored) >= 5 else None

            await until(begun, "the first files")
            waiting = "SELECT count(*) FROM whatsapp_gateway.media_downloads WHERE download_status <> 'stored'"
            assert await pool.fetchval(waiting) > 0, "the files came faster than the kill"
            site.processes["media"].kill()
            await site.processes["media"].wait()
            extra = {"WAPIPE_METRICS_PORT": str(site.ports["media"])}
            again = await start_process(stack, "media", environment | extra, tmp_path)
            await wait_ready("media", site.ports["media"], again, tmp_path)
            await site.settled(len(deliveries))

            async def over() -> Any:
                found = await status(environment)
                return found if not (found["states"]["pending"] or found["states"]["running"]) else None

            found = await until(over, "every file", 120)
            expected = sum(m.content.has_media for s in waha.waha.sessions.values() for m in s.by_raw_id.values())
            assert found["jobs"] == found["states"]["stored"] == expected
            assert (await site.scrape("media")).total("wapipe_media_bytes_total") > 0
            await pictures(site, 10)
            code, output = await command(environment, "verify", "--json")
            assert (code, json.loads(output)["missing"], json.loads(output)["damaged"]) == (0, [], [])
            code, output = await command(environment, "sweep", "--grace-s", "0", "--json")
            assert (code, json.loads(output)["objects"]) == (0, 0)
            code, output = await command(environment, "list", "--state", "expired")
            assert code == 0
            code, output = await command(environment, "retry")
            assert (code, output.strip()) == (0, "taken up again: 0")
            await end_process(again)
