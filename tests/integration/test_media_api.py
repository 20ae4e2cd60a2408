"""Files through the API: the message says where, the link leads to the bytes, and nobody else's session does."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from pipeline.api import make_app
from tests.integration.files import JPEG, Desk, Files, digest, downloading, media_environment, media_message, open_desk
from tests.integration.media_fixtures import emptied
from tests.integration.written import Record, new_desk, numbered
from tests.stack import Servers

HTML = b"<!doctype html><script>alert(1)</script>" + b" " * 100
CHAT = "5511988887777@c.us"


@dataclass
class Reading:
    """The API over the desk's database and bucket."""

    desk: Desk
    http: httpx.AsyncClient

    async def told(self, *records: Record) -> None:
        """To the messages consumer and to the media consumer."""
        messages = new_desk(self.desk.pool)
        await messages.store(numbered(records))
        await self.desk.told(*records)


@pytest.fixture(params=["redirect", "proxy"])
async def reading(
    request: pytest.FixtureRequest, servers: Servers, files: Files, migrated_database: str
) -> AsyncIterator[Reading]:
    database = await emptied(servers, migrated_database)
    proxy = "true" if request.param == "proxy" else "false"
    environment = await media_environment(
        servers, files, database, WHATSAPP_GATEWAY_API_TOKEN="a-token-of-our-own", WAPIPE_MEDIA_PROXY=proxy,
        WAPIPE_MEDIA_THUMBNAILS="true",
    )  # fmt: skip
    async with open_desk(environment) as desk:
        app = make_app(desk.settings, desk.pool)
        headers = {"X-Api-Token": "a-token-of-our-own"}
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=headers) as http:
            yield Reading(desk, http)
        await app.state.media.close()


async def fetch(reading: Reading, path: str, **headers: str) -> httpx.Response:
    """The bytes, wherever the API sends us; a store gets no token of ours."""
    answer = await reading.http.get(path, headers=headers)
    if not reading.desk.settings.media.proxy:
        assert answer.status_code == 302, answer.text
        async with httpx.AsyncClient() as http:
            return await http.get(answer.headers["location"], headers=headers)
    return answer


async def test_a_picture_is_seen_through_the_api(reading: Reading, files: Files) -> None:
    await reading.told(media_message("A1", files.add("A1.jpeg", JPEG), sha256=digest(JPEG)))
    async with downloading(reading.desk):
        await reading.desk.settled()
        await reading.desk.thumbnails_settled()
    [item] = (await reading.http.get(f"/api/messages/default/{CHAT}")).json()["items"]
    media = item["media"]
    assert (media["state"], media["mimetype"], media["bytes"]) == ("stored", "image/jpeg", len(JPEG))
    answer = await fetch(reading, media["link"])
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, JPEG, "image/jpeg")
    assert re.match(r"inline; filename=\"?A1.jpg", answer.headers["content-disposition"])
    small = await fetch(reading, media["thumbnail"])
    assert (small.status_code, small.headers["content-type"]) == (200, "image/jpeg")
    part = await fetch(reading, media["link"], Range="bytes=2-5")
    assert (part.status_code, part.content) == (206, JPEG[2:6])


async def test_what_a_browser_would_run_is_a_download(reading: Reading, files: Files) -> None:
    url = files.add("A1.html", HTML)
    await reading.told(media_message("A1", url, mimetype="image/png"))
    async with downloading(reading.desk):
        await reading.desk.settled()
    answer = await fetch(reading, f"/api/media/default/false_{CHAT}_A1")
    assert answer.content == HTML
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith("attachment")
    if reading.desk.settings.media.proxy:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in answer.headers["content-security-policy"]


async def test_only_the_session_that_has_the_message_has_its_file(reading: Reading, files: Files) -> None:
    await reading.told(media_message("A1", files.add("A1.jpeg", JPEG)), media_message("B1", None, session="other"))
    async with downloading(reading.desk):
        await reading.desk.settled()
    message = f"false_{CHAT}_A1"
    for path, kind in (
        (f"/api/media/other/{message}", "no-such-message"),
        (f"/api/media/nobody/{message}", "no-such-session"),
        ("/api/media/default/false_447700900123@c.us_A1", "no-such-message"),
    ):  # fmt: skip
        answer = await reading.http.get(path)
        assert (answer.status_code, answer.json()["type"]) == (404, f"/problems/{kind}")
    assert (await reading.http.get("/api/media/default/A1")).status_code == 422
    assert (await reading.http.get(f"/api/media/default/{message}", headers={"X-Api-Token": "no"})).status_code == 401


async def test_a_file_that_is_not_stored_says_why(reading: Reading, files: Files) -> None:
    await reading.told(media_message("A1", "http://localhost:3000/api/files/default/none.jpeg"))
    path = f"/api/media/default/false_{CHAT}_A1"
    before = await reading.http.get(path)
    assert (before.status_code, before.json()["type"]) == (404, "/problems/file-pending")
    assert before.headers["retry-after"]
    async with downloading(reading.desk):
        await reading.desk.settled()
    after = await reading.http.get(path)
    assert (after.status_code, after.json()["type"]) == (404, "/problems/file-expired")
    [item] = (await reading.http.get(f"/api/messages/default/{CHAT}")).json()["items"]
    assert (item["media"]["state"], item["media"]["reason"], item["media"]["link"]) == (
        "expired",
        "not_available",
        None,
    )


async def test_the_list_of_files_is_paged(reading: Reading, files: Files) -> None:
    await reading.told(*(media_message(f"A{n}", None) for n in range(5)), media_message("B", None, session="other"))
    query: dict[str, Any] = {"state": "pending", "session": "default", "limit": 2}
    seen: list[str] = []
    while True:
        page = (await reading.http.get("/api/media", params=query)).json()
        seen += [item["message"] for item in page["items"]]
        if page["next"] is None:
            break
        query["before"] = page["next"]
    assert sorted(seen) == [f"false_{CHAT}_A{n}" for n in range(5)]
    everybody = (await reading.http.get("/api/media", params={"state": "pending"})).json()["items"]
    assert len(everybody) == 6
    assert (await reading.http.get("/api/media", params={"session": "nobody"})).status_code == 404
    assert (await reading.http.get("/api/media", params={"state": "lost"})).status_code == 422


async def test_a_message_that_was_taken_back_shows_no_file(reading: Reading, files: Files) -> None:
    await reading.told(media_message("A1", files.add("A1.jpeg", JPEG)))
    revoke = {"protocolMessage": {"type": 0, "key": {"id": "A1", "fromMe": False, "remoteJid": CHAT}}}
    messages = new_desk(reading.desk.pool)
    await messages.store([media_message("R1", None, hasMedia=False, media=None, _data={"message": revoke})])
    async with downloading(reading.desk):
        await reading.desk.settled()
    path = f"/api/media/default/false_{CHAT}_A1"
    assert (await reading.http.get(path)).json()["type"] == "/problems/revoked"
    assert (await fetch(reading, f"{path}?include=revoked")).content == JPEG
    [item] = (await reading.http.get(f"/api/messages/default/{CHAT}")).json()["items"]
    assert item["media"]["link"] is None


async def test_strangers_read_nothing_of_the_bucket(reading: Reading, files: Files) -> None:
    await reading.told(media_message("A1", files.add("A1.jpeg", JPEG)))
    async with downloading(reading.desk):
        await reading.desk.settled()
    [key, *_] = await reading.desk.keys()
    settings = reading.desk.settings
    async with httpx.AsyncClient() as http:
        for path in (f"/{settings.s3.bucket}/{key}", f"/{settings.s3.bucket}/", f"/{settings.s3.bucket}?list-type=2"):
            assert (await http.get(settings.s3.url + path)).status_code == 403
