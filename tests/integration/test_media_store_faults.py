"""A store that is busy, slow, full or away: no job is lost, no file is doubled, and none expires that had time."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pipeline.media.sources import Place
from pipeline.pause import Pauses
from pipeline.s3 import PART_BYTES
from tests.faults.proxy import Proxy
from tests.integration.busy_store import busy_store
from tests.integration.files import (
    JPEG,
    Files,
    digest,
    downloading,
    media_environment,
    media_message,
    open_desk,
)
from tests.integration.media_fixtures import emptied
from tests.integration.test_media_faults import assert_tidy
from tests.site import until
from tests.stack import NOT_COVERED, Servers

_SEED = 11  # of the requests that are refused
_DISK_MIB = 64


async def waits_for(pauses: Pauses, wanted: str | None) -> None:
    """Until /ready would say this."""

    async def probe() -> bool | None:
        return True if pauses.answer() == wanted else None

    await until(probe, f"downloads to say {wanted}")


async def time_passes(seconds: float, why: str) -> None:
    """An outage lasts so long."""
    end = time.monotonic() + seconds

    async def probe() -> bool | None:
        return True if time.monotonic() > end else None

    await until(probe, why)


@asynccontextmanager
async def proxied(servers: Servers) -> AsyncIterator[Proxy]:
    """In front of the store."""
    proxy = Proxy((await servers.s3()).port)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()


async def test_the_store_says_slow_down(servers: Servers, files: Files, migrated_database: str) -> None:
    """First to every request, then to one in five: small files and one in parts."""
    database = await emptied(servers, migrated_database)
    dice = random.Random(_SEED)
    large, small = secrets.token_bytes(2 * PART_BYTES + 7), [JPEG + bytes([n]) for n in range(30)]
    async with busy_store((await servers.s3()).url) as store:
        environment = await media_environment(servers, files, database) | {"WAPIPE_S3_ENDPOINT_URL": store.url}
        pauses = Pauses("media")
        async with open_desk(environment) as desk:
            store.refuses = lambda _: True
            await desk.told(
                media_message("L", files.add("L.mp4", large), kind="video"),
                *(media_message(f"A{n}", files.add(f"A{n}.jpeg", data)) for n, data in enumerate(small)),
            )
            async with downloading(desk, pauses=pauses):
                await waits_for(pauses, "s3_away")
                store.refuses = lambda _: dice.random() < 0.2
                jobs = await desk.settled()
                store.refuses = lambda request: "x-amz-copy-source" in request.headers
                await desk.told(media_message("M", files.add("M.mp4", large + b"M"), kind="video"))

                async def copy_refused() -> bool | None:
                    return True if store.refused["in the body"] else None

                await until(copy_refused, "a copy that fails after its 200")
                store.refuses = lambda _: False
                jobs = await desk.settled()
                await waits_for(pauses, None)
            assert {(j["download_status"], j["asked"], j["abandoned"]) for j in jobs.values()} == {("stored", 0, 0)}
            everything = [large, large + b"M", *small]
            await assert_tidy(desk, {digest(data): 1 for data in everything})


async def test_a_slow_store_costs_no_lease_and_no_file(servers: Servers, files: Files, migrated_database: str) -> None:
    """Each upload takes longer than a lease."""
    database = await emptied(servers, migrated_database)
    data = [secrets.token_bytes(40_000) for _ in range(20)]
    async with proxied(servers) as proxy:
        environment = await media_environment(servers, files, database, WAPIPE_MEDIA_LEASE_S="1")
        async with open_desk(environment) as direct:
            through = environment | {"WAPIPE_S3_ENDPOINT_URL": f"http://127.0.0.1:{proxy.port}"}
            async with open_desk(through) as desk, downloading(desk):
                await proxy.set("slow")
                await desk.told(*(media_message(f"A{n}", files.add(f"A{n}.jpeg", d)) for n, d in enumerate(data)))
                jobs = await desk.settled()
            assert {(j["download_status"], j["abandoned"]) for j in jobs.values()} == {("stored", 0)}
            assert min((j["finished_at"] - j["started_at"]).total_seconds() for j in jobs.values()) > 1
            assert set(files.asked.values()) == {1}
            await assert_tidy(direct, {digest(d): 1 for d in data})


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """A file system of its own at `folder`; False where none can be mounted."""
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={_DISK_MIB}m"]
    mounted = (
        subprocess.run(["mount", *options, "tmpfs", str(folder)], capture_output=True, check=False).returncode == 0
    )
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)  # its server still runs


def filled(folder: Path) -> Path:
    """A file that takes the last byte."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for _ in range(_DISK_MIB * 256):
            file.write(bytes(4096))
    return ballast


async def test_a_store_whose_disk_is_full(files: Files, servers: Servers, migrated_database: str) -> None:
    """It answers, and reads; only writes fail. WAHA is left in peace meanwhile."""
    database = await emptied(servers, migrated_database)
    own, pauses = Servers(), Pauses("media")
    data = [secrets.token_bytes(50_000) for _ in range(30)]
    try:
        with small_disk(own.root / "s3") as mounted:
            if not mounted:
                NOT_COVERED.append("a store whose disk is full: a file system cannot be mounted here")
                return
            environment = await media_environment(servers, files, database, s3=await own.s3())
            async with open_desk(environment) as desk, downloading(desk, pauses=pauses):
                await desk.told(media_message("A", files.add("A.jpeg", JPEG)))
                await desk.settled()
                ballast = await asyncio.to_thread(filled, own.root / "s3")
                await desk.told(*(media_message(f"A{n}", files.add(f"A{n}.jpeg", d)) for n, d in enumerate(data)))
                await waits_for(pauses, "s3_away")
                await time_passes(5, "the disk to be full for a while")
                asked = files.asked.total()
                ballast.unlink()
                jobs = await desk.settled()
                await waits_for(pauses, None)
                assert {(j["download_status"], j["asked"]) for j in jobs.values()} == {("stored", 0)}
                assert asked < 3 * len(data), "WAHA was asked again and again for files that had nowhere to go"
                await assert_tidy(desk, {digest(d): 1 for d in [JPEG, *data]})
    finally:
        await own.close()


class Waha:
    """Deletes each file at its end of life, and downloads it again when it is asked, if WhatsApp still has it."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self.ends: dict[str, float] = {}
        self.lost: set[str] = set()
        self.late: list[str] = []

    def add(self, raw_id: str, data: bytes, life_s: float) -> str:
        url = self._files.add(raw_id, data)
        self.ends[f"/api/files/default/{raw_id}"] = time.time() + life_s
        return url

    def answer(self, request: Request) -> Response | None:
        path = request.url.path
        if time.time() < self.ends[path]:
            return None
        self.late.append(path.rpartition("/")[2])
        return JSONResponse({"statusCode": 404}, 404)

    async def ask(self, source: str, session: str, chat: str, message_id: str) -> Place | None:
        raw_id = message_id.split("_")[2]
        if raw_id in self.lost:
            return None
        self.ends[f"/api/files/default/{raw_id}"] = time.time() + 60
        return Place(f"http://localhost:3000/api/files/default/{raw_id}", None, None)


async def test_files_whose_time_is_longer_than_the_outage(
    servers: Servers, files: Files, migrated_database: str
) -> None:
    """Those that had time are stored from where they lay; of those that had none WhatsApp's are asked for again, and what
    is nowhere any more is expired. Nothing else is."""
    database = await emptied(servers, migrated_database)
    waha, pauses, life_s = Waha(files), Pauses("media"), 30.0
    files.answer = waha.answer
    waha.lost = {"N0", "N1"}
    data = {
        f"{kind}{n}": JPEG + f"{kind}{n}".encode()
        for kind, count in (("T", 40), ("S", 6), ("N", 2))
        for n in range(count)
    }
    async with proxied(servers) as proxy:
        environment = await media_environment(
            servers, files, database, WHATSAPP_FILES_LIFETIME=str(life_s), WAPIPE_MEDIA_ASK_TIMES="1",
            WAPIPE_S3_ENDPOINT_URL=f"http://127.0.0.1:{proxy.port}", WAPIPE_MEDIA_ASK_RATE_PER_S="50",
        )  # fmt: skip
        async with open_desk(environment) as desk, downloading(desk, waha.ask, pauses=pauses):
            await proxy.set("cut")
            now = time.time()
            lives = {raw_id: life_s if raw_id[0] == "T" else 2.0 for raw_id in data}
            await desk.told(
                *(
                    media_message(raw_id, waha.add(raw_id, data[raw_id], left), at_ms=int((now + left - life_s) * 1000))
                    for raw_id, left in lives.items()
                )
            )
            await waits_for(pauses, "s3_away")
            await time_passes(3, "the short lives to end")
            assert (await desk.states())["stored"] == 0
            await proxy.set("pass")
            jobs = await desk.settled()
            assert {r for r, j in jobs.items() if j["download_status"] == "expired"} == waha.lost
            assert {r for r, j in jobs.items() if j["download_status"] == "stored"} == data.keys() - waha.lost
            assert not any(raw_id.startswith("T") for raw_id in waha.late)
            await assert_tidy(desk, {digest(d): 1 for raw_id, d in data.items() if raw_id not in waha.lost})
