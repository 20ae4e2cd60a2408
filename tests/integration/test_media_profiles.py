"""Profile pictures: asked for slowly, stored as any object, shown by the API, replaced ones swept; and nothing by default."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from starlette.responses import Response

from pipeline.api import make_app
from pipeline.errors import TransientError
from pipeline.media.profiles import Profiles
from pipeline.media.run import downloads
from pipeline.media.sweep import sweep
from producers.simulator.rest import Past, RestServer, SimulatedWaha
from tests.integration.files import JPEG, Desk, Files, digest, media_environment, media_message, open_desk
from tests.integration.media_fixtures import emptied
from tests.simulated_waha import served
from tests.site import until
from tests.stack import Servers

OTHER = JPEG + b"another"
TOKEN = "a-token-of-our-own"
KEY = "the-key-of-waha"


@dataclass
class Profile:
    """A desk, a WAHA beside its files (which play WhatsApp's own server of pictures), and a session of it."""

    desk: Desk
    files: Files
    waha: RestServer
    profiles: Profiles

    @property
    def session(self) -> str:
        return next(iter(self.waha.waha.sessions))

    def shows(self, jid: str, data: bytes | None) -> None:
        """From now on WAHA says this picture."""
        pictures = self.waha.waha.sessions[self.session].pictures
        pictures.pop(jid, None)
        if data is not None:
            path = f"/v/{secrets.token_hex(4)}.jpg"
            self.files.files[path] = data
            pictures[jid] = f"{self.files.base_url}{path}?ccb=11-4&oh=01_Q5Aa"

    async def met(self, *jids: str, days_ago: int = 0, session: str | None = None) -> None:
        """As the contacts consumer says it."""
        at = datetime.now(UTC) - timedelta(days=days_ago)
        number = await self.desk.pool.fetchval(
            """INSERT INTO whatsapp_gateway.sessions (name) VALUES ($1)
               ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING id""", session or self.session
        )  # fmt: skip
        for jid in jids:
            await self.desk.pool.execute(
                """WITH j AS (INSERT INTO whatsapp_gateway.jids (session_id, jid) VALUES ($1, $2) RETURNING id)
                   INSERT INTO whatsapp_gateway.contacts_seen SELECT id, false, $3, $3 FROM j""", number, jid, at
            )  # fmt: skip

    async def look(self) -> int:
        """At everybody who is due; answers how many were."""
        count = 0
        while await self.profiles.look_at_one():
            count += 1
        return count

    async def due(self) -> None:
        """Time passes."""
        await self.desk.pool.execute("UPDATE whatsapp_gateway.profile_pictures SET next_at = now()")

    async def rows(self) -> dict[str, dict[str, Any]]:
        """By contact."""
        rows = await self.desk.pool.fetch(
            "SELECT p.*, j.jid FROM whatsapp_gateway.profile_pictures p JOIN whatsapp_gateway.jids j ON j.id = contact_id"
        )
        return {row["jid"]: dict(row) for row in rows}


@pytest.fixture
async def profile(servers: Servers, files: Files, migrated_database: str) -> AsyncIterator[Profile]:
    database = await emptied(servers, migrated_database)
    waha = RestServer(SimulatedWaha(Past(sessions=1, chats=2, messages=4, twins=0)), KEY)
    async with served(waha) as url:
        environment = await media_environment(
            servers, files, database, WAPIPE_WAHA_URL=url, WAPIPE_MEDIA_PROFILE_PICTURES="true",
            WAPIPE_MEDIA_PICTURE_ORIGINS=files.base_url, WAPIPE_WAHA_DEADLINE_S="1", WHATSAPP_GATEWAY_API_TOKEN=TOKEN,
        )  # fmt: skip
        async with open_desk(environment) as desk, downloads(desk.settings, desk.pool) as running:
            assert running.profiles is not None
            yield Profile(desk, files, waha, running.profiles)


@asynccontextmanager
async def reading(desk: Desk) -> AsyncIterator[httpx.AsyncClient]:
    app = make_app(desk.settings, desk.pool)
    headers = {"X-Api-Token": TOKEN}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api", headers=headers) as http:
        yield http
    await app.state.media.close()


async def test_pictures_are_stored_and_seen_through_the_api(profile: Profile) -> None:
    ana, bob, group = "5511988887777@c.us", "447700900123@c.us", "120363041234567890@g.us"
    await profile.met(ana, bob, group)
    profile.shows(ana, JPEG)
    profile.shows(group, JPEG)
    assert await profile.look() == 3
    assert await profile.look() == 0, "nobody is asked for again before it is time"
    assert set(profile.files.keys) == {None}, "WhatsApp's server gets no key of WAHA's"
    assert await profile.desk.keys("sha256/") == [
        f"sha256/{digest(JPEG).hex()[:2]}/{digest(JPEG).hex()[2:4]}/{digest(JPEG).hex()}"
    ]
    async with reading(profile.desk) as http:
        items = (await http.get(f"/api/contacts/{profile.session}")).json()["items"]
        links = {item["id"]: item["picture"] for item in items}
        assert links == {ana: f"/api/contacts/{profile.session}/{ana}/picture", bob: None, group: links[group]}
        for contact in (ana, group):
            answer = await http.get(links[contact])
            assert answer.status_code == 302
            async with httpx.AsyncClient() as anybody:
                picture = await anybody.get(answer.headers["location"])
            assert (picture.content, picture.headers["content-type"]) == (JPEG, "image/jpeg")
        nothing = await http.get(f"/api/contacts/{profile.session}/{bob}/picture")
        assert (nothing.status_code, nothing.json()["type"]) == (404, "/problems/no-picture")
        stranger = await http.get(f"/api/contacts/nobody/{ana}/picture")
        assert (stranger.status_code, stranger.json()["type"]) == (404, "/problems/no-such-session")
        unasked = await http.get(links[ana], headers={"X-Api-Token": "no"})
        assert unasked.status_code == 401


async def test_what_is_replaced_or_taken_away_is_swept_and_what_others_have_stays(profile: Profile) -> None:
    ana, bob = "5511988887777@c.us", "447700900123@c.us"
    await profile.met(ana, bob)
    profile.shows(ana, JPEG)
    profile.shows(bob, JPEG)
    await profile.look()
    profile.shows(ana, OTHER)
    await profile.due()
    await profile.look()
    desk = profile.desk
    assert (await sweep(desk.pool, desk.bucket, grace_s=0, dry_run=False)).objects == 0, "Bob still shows the first"
    profile.shows(bob, None)
    await profile.due()
    await profile.look()
    assert (await sweep(desk.pool, desk.bucket, grace_s=0, dry_run=False)).objects == 1
    rows = await profile.rows()
    assert (rows[ana]["sha256"], rows[bob]["sha256"]) == (digest(OTHER), None)
    assert [key.rpartition("/")[2] for key in await desk.keys("sha256/")] == [digest(OTHER).hex()]
    changed_at = rows[ana]["changed_at"]
    await profile.due()
    await profile.look()
    assert (await profile.rows())[ana]["changed_at"] == changed_at, "the same picture is no change"


async def test_a_picture_and_a_file_of_the_same_bytes_are_one_object(profile: Profile) -> None:
    ana = "5511988887777@c.us"
    await profile.met(ana)
    profile.shows(ana, JPEG)
    await profile.look()
    await profile.desk.pool.execute("DELETE FROM whatsapp_gateway.profile_pictures")
    await profile.desk.told(media_message("A1", None))
    await profile.desk.pool.execute(
        "UPDATE whatsapp_gateway.media_downloads SET download_status = 'stored', sha256 = $1", digest(JPEG)
    )
    found = await sweep(profile.desk.pool, profile.desk.bucket, grace_s=0, dry_run=False)
    assert (found.objects, len(await profile.desk.keys("sha256/"))) == (0, 1)


async def test_who_is_asked(profile: Profile) -> None:
    lid, number = "99887766554433@lid", "5511988887777@c.us"
    await profile.met(lid, number, "77@lid", "status@broadcast", "1@newsletter")
    await profile.met("447700900123@c.us", days_ago=31)
    await profile.desk.pool.execute(
        """INSERT INTO whatsapp_gateway.identities (lid_id, phone_id, at, fallen, source)
           SELECT l.id, p.id, now(), false, 'lids' FROM whatsapp_gateway.jids l, whatsapp_gateway.jids p
           WHERE l.jid = $1 AND p.jid = $2""", lid, number
    )  # fmt: skip
    await profile.met("1@c.us", session="elsewhere:default")
    profile.shows(number, JPEG)
    await profile.look()
    rows = await profile.rows()
    assert set(rows) == {number, "77@lid", "1@c.us"}
    assert rows["1@c.us"]["last_error"] == "its WAHA is not configured"
    async with reading(profile.desk) as http:  # the picture of the number is the hidden id's as well
        assert (await http.get(f"/api/contacts/{profile.session}/{lid}/picture")).status_code == 302


async def test_whoever_is_not_met_any_more_is_put_off(profile: Profile) -> None:
    lid, number, gone = "99887766554433@lid", "5511988887777@c.us", "447700900123@c.us"
    await profile.met(lid, number, gone)
    assert await profile.look() == 3
    await profile.desk.pool.execute(
        """UPDATE whatsapp_gateway.contacts_seen SET last_seen_at = now() - interval '31 days'
           WHERE contact_id = (SELECT id FROM whatsapp_gateway.jids WHERE jid = $1)""", gone
    )  # fmt: skip
    await profile.desk.pool.execute(
        """INSERT INTO whatsapp_gateway.identities (lid_id, phone_id, at, fallen, source)
           SELECT l.id, p.id, now(), false, 'lids' FROM whatsapp_gateway.jids l, whatsapp_gateway.jids p
           WHERE l.jid = $1 AND p.jid = $2""", lid, number
    )  # fmt: skip
    await profile.due()
    assert await profile.look() == 1
    now = datetime.now(UTC)
    waits = {jid: row["next_at"] - now for jid, row in (await profile.rows()).items()}
    assert {jid for jid, wait in waits.items() if wait > timedelta(days=1)} == {number}
    assert min(waits.values()) > timedelta(hours=23)


@pytest.mark.parametrize(
    ("url", "data", "said"),
    [
        ("http://169.254.169.254/latest/meta-data", None, "origin_refused"),
        ("{waha}/api/sessions", None, "origin_refused"),
        ("{files}/v/none.jpg", None, "answered 404"),
        ("{files}/v/page.jpg", b"<!doctype html><script>alert(1)</script>", "no_picture"),
        ("{files}/v/large.jpg", JPEG + bytes(5 * 1024 * 1024), "TooLargeError"),
        ("{files}/v/empty.jpg", b"", "empty"),
    ],
)
async def test_what_is_no_picture_is_not_stored(profile: Profile, url: str, data: bytes | None, said: str) -> None:
    ana = "5511988887777@c.us"
    await profile.met(ana)
    profile.shows(ana, JPEG)
    await profile.look()
    where = url.format(files=profile.files.base_url, waha=profile.desk.settings.waha.base_urls()["default"])
    profile.waha.waha.sessions[profile.session].pictures[ana] = where
    if data is not None:
        profile.files.files[where.removeprefix(profile.files.base_url)] = data
    await profile.due()
    assert await profile.look() == 1
    row = (await profile.rows())[ana]
    assert (row["last_error"], row["sha256"]) == (said, digest(JPEG)), "the one that was there stays"
    assert len(await profile.desk.keys()) == 1


async def test_whoever_is_away_is_asked_again_soon(profile: Profile) -> None:
    ana = "5511988887777@c.us"
    await profile.met(ana)
    profile.shows(ana, JPEG)
    profile.files.answer = lambda _: Response("overloaded", 503)
    with pytest.raises(TransientError):
        await profile.look()
    profile.files.answer = lambda _: None
    assert await profile.look() == 0
    left = await profile.desk.pool.fetchval(
        "SELECT extract(epoch FROM next_at - now())::float8 FROM whatsapp_gateway.profile_pictures"
    )
    assert 0 < left <= 600
    await profile.due()
    await profile.look()
    assert (await profile.rows())[ana]["sha256"] == digest(JPEG)
    profile.waha.waha.sessions[profile.session].status = "STOPPED"
    await profile.due()
    await profile.look()
    assert "422" in (await profile.rows())[ana]["last_error"]


async def test_the_process_looks_by_itself_and_only_if_it_is_told_to(profile: Profile) -> None:
    await profile.met("5511988887777@c.us")
    profile.shows("5511988887777@c.us", JPEG)
    off = profile.desk.settings.model_copy(
        update={"media": profile.desk.settings.media.model_copy(update={"profile_pictures": False})}
    )
    async with downloads(off, profile.desk.pool) as running:
        assert running.profiles is None
    stop = asyncio.Event()
    task = asyncio.create_task(profile.profiles.run(stop))
    await until(lambda: profile.desk.keys("sha256/"), "a picture")
    stop.set()
    await task
