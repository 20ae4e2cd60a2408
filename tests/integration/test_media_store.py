"""From a message to an object: real PostgreSQL, real S3, real HTTP. One job a message, one object for equal bytes."""

from __future__ import annotations

import asyncio
import secrets
import time

from pipeline.media.objects import TEMPORARY, object_key
from pipeline.media.sources import Place
from pipeline.s3 import PART_BYTES
from schemas.topics import BACKFILL
from tests.integration.files import (
    JPEG,
    KEY,
    Desk,
    Files,
    digest,
    downloading,
    media_message,
)
from tests.integration.written import AT_MS


async def test_a_picture_is_stored_by_its_bytes(media_desk: Desk, files: Files) -> None:
    url = files.add("A1.jpeg", JPEG)
    await media_desk.told(media_message("A1", url, sha256=digest(JPEG), size=len(JPEG)))
    async with downloading(media_desk):
        jobs = await media_desk.settled()
    assert jobs["A1"]["download_status"] == "stored"
    assert jobs["A1"]["sha256"] == digest(JPEG)
    assert jobs["A1"]["bytes"] == len(JPEG)
    assert await media_desk.keys() == [object_key(digest(JPEG))]
    assert files.keys == [KEY]
    async with media_desk.bucket.read(object_key(digest(JPEG))) as opened:
        assert b"".join([c async for c in opened.chunks]) == JPEG


async def test_one_job_however_often_a_message_is_told(media_desk: Desk, files: Files) -> None:
    url = files.add("A1.jpeg", JPEG)
    first = media_message("A1", url)
    await media_desk.told(first, media_message("A1", url, event="message.any"))
    await media_desk.told(first, media_message("A1", url, topic=BACKFILL.name))
    edit = {"protocolMessage": {"type": 14, "key": {"id": "A1"}, "editedMessage": {"conversation": "new"}}}
    await media_desk.told(media_message("A1", url, _data={"message": edit}))
    async with downloading(media_desk):
        jobs = await media_desk.settled()
        await media_desk.told(first)  # after it was stored
    assert list(jobs) == ["A1"]
    assert files.asked == {"/api/files/default/A1.jpeg": 1}
    assert await media_desk.states() == {"stored": 1}


async def test_the_same_file_of_fifty_messages_at_once_is_one_object(media_desk: Desk, files: Files) -> None:
    files.gate = asyncio.Event()
    records = [
        media_message(f"A{n}", files.add(f"A{n}.jpeg", JPEG, f"s{n % 5}"), session=f"s{n % 5}") for n in range(50)
    ]
    await media_desk.told(*records)
    async with downloading(media_desk) as one, downloading(media_desk) as two:
        assert one is not two
        await files.arrived.wait()
        files.gate.set()
        for session in range(5):
            assert {j["download_status"] for j in (await media_desk.settled(f"s{session}")).values()} == {"stored"}
    assert await media_desk.references() == {digest(JPEG): 50}
    assert await media_desk.keys() == [object_key(digest(JPEG))]


async def test_a_large_file_goes_in_parts_and_leaves_nothing_behind(media_desk: Desk, files: Files) -> None:
    data = secrets.token_bytes(2 * PART_BYTES + 12_345)
    await media_desk.told(
        media_message("A1", files.add("A1.mp4", data), sha256=digest(data), kind="video", mimetype="video/mp4")
    )
    await media_desk.told(media_message("A2", files.add("A2.mp4", data), kind="video", mimetype="video/mp4"))
    async with downloading(media_desk):
        jobs = await media_desk.settled()
    assert {j["download_status"] for j in jobs.values()} == {"stored"}
    assert await media_desk.keys() == [object_key(digest(data))]
    assert await media_desk.bucket.uploads(TEMPORARY) == []
    assert await media_desk.bucket.size(object_key(digest(data))) == len(data)


async def test_a_file_of_wahas_bucket_is_read_there(media_desk: Desk, files: Files) -> None:
    small, large = JPEG, secrets.token_bytes(PART_BYTES + 1)
    await media_desk.bucket.put("default/A1.jpeg", small, "image/jpeg")
    await media_desk.bucket.put("default/A2.mp4", large, "video/mp4")
    await media_desk.bucket.put("other/A3.jpeg", small, "image/jpeg")
    name = media_desk.bucket.name
    settings = media_desk.settings.model_copy(
        update={"media": media_desk.settings.media.model_copy(update={"waha_buckets": name, "ask_times": 1})}
    )
    for raw_id, key in (("A1", "default/A1.jpeg"), ("A2", "default/A2.mp4"), ("A3", "other/A3.jpeg"),
                        ("A4", "default/../other/A3.jpeg"), ("A5", "default/none")):  # fmt: skip
        await media_desk.told(media_message(raw_id, None, s3=(name, key)))
    async with downloading(media_desk, settings=settings):
        jobs = await media_desk.settled()
    assert {raw_id: j["download_status"] for raw_id, j in jobs.items()} == {
        "A1": "stored", "A2": "stored", "A3": "expired", "A4": "expired", "A5": "expired",
    }  # fmt: skip
    assert jobs["A2"]["sha256"] == digest(large)
    assert not files.asked


async def test_a_file_that_is_gone_is_asked_for_again(media_desk: Desk, files: Files) -> None:
    asked = []

    async def ask(source: str, session: str, chat: str, message_id: str) -> Place | None:
        asked.append((source, session, chat, message_id))
        return Place(files.add("fresh.jpeg", JPEG))

    hours_ago = int(time.time() * 1000) - 3 * 3_600_000
    await media_desk.told(
        media_message("A1", "http://localhost:3000/api/files/default/A1.jpeg"),  # 404
        media_message("A2", files.add("A2.jpeg", b"not asked for: WAHA has deleted it by now"), at_ms=hours_ago),
        media_message("A3", None),
        media_message("A4", None, topic=BACKFILL.name),
    )
    async with downloading(media_desk, ask):
        jobs = await media_desk.settled()
    assert {j["download_status"] for j in jobs.values()} == {"stored"}
    assert sorted(asked) == [
        ("default", "default", "5511988887777@c.us", f"false_5511988887777@c.us_A{n}") for n in (1, 2, 3, 4)
    ]
    assert files.asked["/api/files/default/A2.jpeg"] == 0


async def test_a_file_that_nobody_has_expires_and_can_be_taken_up_again(media_desk: Desk, files: Files) -> None:
    url = "http://localhost:3000/api/files/default/A1.jpeg"
    await media_desk.told(media_message("A1", url))
    async with downloading(media_desk):
        jobs = await media_desk.settled()
        assert (jobs["A1"]["download_status"], jobs["A1"]["reason"]) == ("expired", "not_available")
        assert jobs["A1"]["asked"] == 4
        files.add("A1.jpeg", JPEG)
        await media_desk.told(media_message("A1", url))  # WAHA tells it again, and has the file
        assert (await media_desk.settled())["A1"]["download_status"] == "stored"


async def test_live_before_backfill_and_what_dies_first_before_what_lives_longer(
    media_desk: Desk, files: Files
) -> None:
    now = int(time.time() * 1000)
    files.gate = asyncio.Event()
    settings = media_desk.settings.model_copy(
        update={"media": media_desk.settings.media.model_copy(update={"concurrency": 1, "server_concurrency": 1})}
    )
    await media_desk.told(
        media_message("OLD", files.add("OLD.jpeg", JPEG), topic=BACKFILL.name, at_ms=now - 60_000),
        media_message("LATE", files.add("LATE.jpeg", JPEG), at_ms=now),
        media_message("EARLY", files.add("EARLY.jpeg", JPEG), at_ms=now - 30_000),
        media_message("GONE", files.add("GONE.jpeg", JPEG), at_ms=now - 400_000),
        media_message("NEVER", None),
    )
    files.gate.set()
    async with downloading(media_desk, settings=settings):
        await media_desk.settled()
    assert [path.rpartition("/")[2] for path in files.asked] == ["EARLY.jpeg", "LATE.jpeg", "OLD.jpeg"]


async def test_time_of_the_message_is_kept(media_desk: Desk, files: Files) -> None:
    await media_desk.told(media_message("A1", files.add("A1.jpeg", JPEG)))
    assert (await media_desk.jobs())["A1"]["ts"].timestamp() * 1000 == AT_MS
