"""What goes wrong while files are fetched: processes that die, a store or a WAHA that is away, leases that are lost.

Expected each time: no job is lost, nothing is stored twice, and after a sweep no object is without a row.
"""

from __future__ import annotations

import asyncio
import secrets
import signal
from dataclasses import replace
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from pipeline.media.objects import OBJECTS, TEMPORARY, object_key
from pipeline.media.sweep import sweep
from pipeline.media.verify import verify
from pipeline.s3 import PART_BYTES
from tests.faults.proxy import Proxy
from tests.integration.files import (
    JPEG,
    Desk,
    Files,
    digest,
    downloading,
    media_environment,
    media_message,
    open_desk,
)
from tests.integration.media_fixtures import emptied
from tests.site import until
from tests.stack import Servers
from tests.warm import start


async def run_child(environment: dict[str, str], stage: str) -> tuple[int, str]:
    process = await start("tests.integration.killed_media", stage, env=environment)
    output, _ = await asyncio.wait_for(process.communicate(), 120)
    return await process.wait(), output.decode()


async def assert_tidy(desk: Desk, expected: dict[bytes, int]) -> None:
    """After two sweeps (the first finds strangers, the second takes them) bucket and rows say the same."""
    for _ in range(2):
        await sweep(desk.pool, desk.bucket, grace_s=0, dry_run=False)
    assert await desk.references() == expected
    assert sorted(await desk.keys(OBJECTS)) == sorted(object_key(sha256) for sha256 in expected)
    assert await desk.keys(TEMPORARY) == []
    assert await desk.bucket.uploads(TEMPORARY) == []
    found = await verify(desk.pool, desk.bucket, sample=None)
    assert (found.missing, found.damaged, found.unknown) == ([], [], [])


@pytest.mark.parametrize("stage", ["fetching", "part", "claimed", "put", "stored"])
async def test_kill_9_at_every_stage(stage: str, servers: Servers, files: Files, migrated_database: str) -> None:
    database = await emptied(servers, migrated_database)
    environment = await media_environment(servers, files, database, WAPIPE_MEDIA_LEASE_S="1")
    large = secrets.token_bytes(2 * PART_BYTES + 7)
    async with open_desk(environment) as desk:
        await desk.told(
            media_message("A1", files.add("A1.mp4", large), kind="video"),
            media_message("A2", files.add("A2.jpeg", JPEG)) if stage != "part" else media_message("A2", files.add("A2", large)),
        )  # fmt: skip
        code, _ = await run_child(environment, stage)
        assert code == -signal.SIGKILL
        async with downloading(desk):
            jobs = await desk.settled()
        assert {job["download_status"] for job in jobs.values()} == {"stored"}
        expected = {digest(large): 2} if stage == "part" else {digest(large): 1, digest(JPEG): 1}
        await assert_tidy(desk, expected)


async def test_the_store_is_away(servers: Servers, files: Files, migrated_database: str) -> None:
    database = await emptied(servers, migrated_database)
    proxy = Proxy((await servers.s3()).port)
    await proxy.start()
    try:
        through = {"WAPIPE_S3_ENDPOINT_URL": f"http://127.0.0.1:{proxy.port}"}
        environment = await media_environment(servers, files, database) | through
        async with open_desk(environment) as desk, downloading(desk):
            await proxy.set("cut")
            await desk.told(*(media_message(f"A{n}", files.add(f"A{n}.jpeg", JPEG + bytes([n]))) for n in range(30)))

            async def failed() -> bool | None:
                errors = [j["last_error"] for j in (await desk.jobs()).values()]
                return True if any(e and "s3" in e for e in errors) else None

            await until(failed, "downloads that find no store")
            asked = files.asked.total()
            assert (await desk.states())["stored"] == 0
            await proxy.set("pass")
            jobs = await desk.settled()
            assert {j["download_status"] for j in jobs.values()} == {"stored"}
            assert asked < 90, "WAHA was asked again and again for files that had nowhere to go"
            await assert_tidy(desk, {digest(JPEG + bytes([n])): 1 for n in range(30)})
    finally:
        await proxy.stop()


async def test_waha_is_away(media_desk: Desk, files: Files) -> None:
    files.answer = lambda _: Response(status_code=503)
    await media_desk.told(*(media_message(f"A{n}", files.add(f"A{n}.jpeg", JPEG)) for n in range(5)))
    async with downloading(media_desk):
        await files.arrived.wait()
        files.answer = lambda _: None
        jobs = await media_desk.settled()
    assert {(j["download_status"], j["asked"]) for j in jobs.values()} == {("stored", 0)}


async def test_a_lease_that_is_lost_writes_nothing(media_desk: Desk, files: Files) -> None:
    files.gate = asyncio.Event()
    await media_desk.told(media_message("A1", files.add("A1.jpeg", JPEG)))
    table = "UPDATE whatsapp_gateway.media_downloads SET"
    async with downloading(media_desk):
        await files.arrived.wait()
        await media_desk.pool.execute(f"{table} lease = gen_random_uuid(), leased_until = now() + interval '1 hour'")
        files.gate.set()

        async def claimed() -> bool | None:
            return True if await media_desk.references() else None

        await until(claimed, "the upload")
        job = (await media_desk.jobs())["A1"]
        assert (job["download_status"], job["sha256"]) == ("running", None)
        await media_desk.pool.execute(f"{table} leased_until = now() - interval '1 second'")
        assert (await media_desk.settled())["A1"]["abandoned"] == 1
    await assert_tidy(media_desk, {digest(JPEG): 1})


async def test_a_job_over_which_processes_die_is_given_up(media_desk: Desk, files: Files) -> None:
    await media_desk.told(media_message("A1", files.add("A1.jpeg", JPEG)))
    await media_desk.pool.execute(
        """UPDATE whatsapp_gateway.media_downloads
           SET download_status = 'running', lease = gen_random_uuid(), leased_until = now() - interval '1 s', abandoned = 9"""
    )
    async with downloading(media_desk):
        job = (await media_desk.settled())["A1"]
    assert (job["download_status"], job["reason"]) == ("failed", "abandoned")


async def test_leases_that_were_lost_do_not_make_a_file_broken(media_desk: Desk, files: Files) -> None:
    """One answer that is cut off, after four processes died: it is tried again like the first one."""
    await media_desk.told(media_message("A1", files.add("A1.jpeg", JPEG), size=len(JPEG)))
    await media_desk.pool.execute(
        """UPDATE whatsapp_gateway.media_downloads
           SET download_status = 'running', lease = gen_random_uuid(), leased_until = now() - interval '1 s',
               attempts = 4, abandoned = 3"""
    )
    files.answer = lambda _: Response(b"") if files.asked.total() == 1 else None
    async with downloading(media_desk):
        job = (await media_desk.settled())["A1"]
    assert (job["download_status"], job["abandoned"], files.asked.total()) == ("stored", 4, 2)


async def test_delete_and_refer_again_at_once(media_desk: Desk, files: Files) -> None:
    """Messages of one file come and go while a sweep without any grace takes away whatever nobody refers to."""
    url, done = files.add("A.jpeg", JPEG), asyncio.Event()

    async def come_and_go() -> None:
        for n in range(40):
            await media_desk.told(media_message(f"A{n}", url))
            if n % 3:
                await media_desk.settled()
            await media_desk.pool.execute(
                "DELETE FROM whatsapp_gateway.media_downloads WHERE download_status = 'stored' AND random() < 0.8"
            )
        done.set()

    async def sweeping() -> int:
        taken = 0
        while not done.is_set():
            taken += (await sweep(media_desk.pool, media_desk.bucket, grace_s=0, dry_run=False)).objects
        return taken

    async with downloading(media_desk), downloading(media_desk):
        _, taken = await asyncio.gather(come_and_go(), sweeping())
        jobs = await media_desk.settled()
    assert taken > 0
    stored = sum(j["download_status"] == "stored" for j in jobs.values())
    assert stored == len(jobs)
    found = await verify(media_desk.pool, media_desk.bucket, sample=None)
    assert (found.missing, found.damaged) == ([], [])
    assert await media_desk.keys(OBJECTS) == ([object_key(digest(JPEG))] if stored else [])


async def test_a_sweep_takes_what_nobody_refers_to(media_desk: Desk, files: Files) -> None:
    await media_desk.told(media_message("A1", files.add("A1.jpeg", JPEG)))
    async with downloading(media_desk):
        await media_desk.settled()
    stranger = secrets.token_bytes(100)
    await media_desk.bucket.put(object_key(digest(stranger)), stranger, "application/octet-stream")
    await media_desk.bucket.put(f"{TEMPORARY}2026-01-01/left", b"x", "application/octet-stream")
    await media_desk.bucket.begin(f"{TEMPORARY}2026-01-01/begun", "application/octet-stream")
    await media_desk.pool.execute("DELETE FROM whatsapp_gateway.media_downloads")
    dry = await sweep(media_desk.pool, media_desk.bucket, grace_s=0, dry_run=True)
    assert (dry.objects, dry.temporary, dry.uploads, dry.adopted) == (1, 1, 1, 1)
    assert len(await media_desk.keys()) == 3
    young = await sweep(media_desk.pool, media_desk.bucket, grace_s=3600, dry_run=False)
    assert (young.objects, young.temporary, young.uploads, young.adopted) == (0, 0, 0, 0)
    first = await sweep(media_desk.pool, media_desk.bucket, grace_s=0, dry_run=False)
    assert replace(first, bytes=0) == replace(dry, bytes=0)
    second = await sweep(media_desk.pool, media_desk.bucket, grace_s=0, dry_run=False)
    assert (second.objects, second.bytes) == (1, 100)
    assert await media_desk.keys() == []
    assert await media_desk.references() == {}


async def test_verify_finds_what_is_missing_and_what_is_damaged(media_desk: Desk, files: Files) -> None:
    data = [JPEG + bytes([n]) for n in range(3)]
    await media_desk.told(*(media_message(f"A{n}", files.add(f"A{n}.jpeg", d)) for n, d in enumerate(data)))
    async with downloading(media_desk):
        await media_desk.settled()
    await media_desk.bucket.delete(object_key(digest(data[0])))
    await media_desk.bucket.put(object_key(digest(data[1])), b"other bytes", "image/jpeg")
    found = await verify(media_desk.pool, media_desk.bucket, sample=None)
    assert (found.missing, found.damaged) == ([digest(data[0]).hex()], [digest(data[1]).hex()])
    assert not found.is_well
    assert (await verify(media_desk.pool, media_desk.bucket, sample=2)).objects >= 1


async def test_a_large_file_takes_little_memory(servers: Servers, files: Files, migrated_database: str) -> None:
    database = await emptied(servers, migrated_database)
    size, block = 200 * 1024 * 1024, secrets.token_bytes(1024 * 1024)

    async def blocks() -> Any:
        for _ in range(size // len(block)):
            yield block

    def answer(_: Request) -> Response:
        return StreamingResponse(blocks(), headers={"content-length": str(size)})

    files.answer = answer
    environment = await media_environment(servers, files, database)
    async with open_desk(environment) as desk:
        await desk.told(media_message("A1", files.add("A1.mp4", b""), kind="video", size=size))
        code, output = await run_child(environment, "memory")
        job = (await desk.jobs())["A1"]
        assert (code, job["download_status"], job["bytes"]) == (0, "stored", size), job
        assert int(output) < size // 4, f"{int(output):,} bytes"  # two parts of 5 MiB, and whatever is imported first
