"""/ready of a real media process says what its downloads wait for; /health does not mind."""

from __future__ import annotations

from pathlib import Path

from starlette.responses import Response

from tests.conftest import make_environment
from tests.faults.proxy import Proxy
from tests.integration.files import JPEG, KEY, Desk, Files, media_message, open_desk
from tests.site import Site, running, until
from tests.stack import Servers


async def ready(site: Site, wanted: str | None) -> None:
    """Until the process is ready (None), or says this."""

    async def probe() -> bool | None:
        answer = await site.http.get(f"http://127.0.0.1:{site.ports['media']}/ready")
        return True if answer.json().get("reason") == wanted else None

    await until(probe, f"/ready to say {wanted}")


async def health(site: Site) -> int:
    return (await site.http.get(f"http://127.0.0.1:{site.ports['media']}/health")).status_code


async def told(desk: Desk, files: Files, prefix: str) -> None:
    urls = [(f"{prefix}{n}", files.add(f"{prefix}{n}.jpeg", JPEG)) for n in range(8)]
    await desk.told(*(media_message(raw_id, url) for raw_id, url in urls))


async def test_ready_says_what_downloads_wait_for(servers: Servers, files: Files, tmp_path: Path) -> None:
    proxy = Proxy((await servers.s3()).port)
    await proxy.start()
    environment = await make_environment(servers) | {
        "WAPIPE_S3_ENDPOINT_URL": f"http://127.0.0.1:{proxy.port}", "WAPIPE_WAHA_URL": files.base_url,
        "WHATSAPP_API_KEY": KEY, "WAPIPE_MEDIA_THUMBNAILS": "false",
    }  # fmt: skip
    try:
        async with running(environment, tmp_path, "media") as site, open_desk(environment) as desk:
            await proxy.set("cut")
            await told(desk, files, "A")
            await ready(site, "s3_away")
            assert await health(site) == 200
            assert (await site.scrape("media")).total("wapipe_paused", consumer="media", reason="s3") == 1
            await proxy.set("pass")
            await ready(site, None)
            files.answer = lambda _: Response(status_code=503)
            await told(desk, files, "B")
            await ready(site, "waha_away")
            assert await health(site) == 200
            files.answer = lambda _: None
            await ready(site, None)
            jobs = await desk.settled()
        assert {(j["download_status"], j["asked"]) for j in jobs.values()} == {("stored", 0)}
        assert len(jobs) == 16
    finally:
        await proxy.stop()
