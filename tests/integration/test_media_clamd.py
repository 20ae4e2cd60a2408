"""Files through a real clamd, over TCP and over its unix socket."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import pytest

from pipeline.local.cache import InstallError
from pipeline.pause import Pauses
from pipeline.s3 import PART_BYTES
from tests.integration.clamd import INFECTED, STREAM_MAX_BYTES, Clamd, clamd
from tests.integration.files import JPEG, Desk, Files, digest, downloading, media_message
from tests.integration.test_media_faults import assert_tidy
from tests.site import until
from tests.stack import NOT_COVERED, REQUIRE, Servers


@pytest.fixture(scope="module")
async def scanner(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Clamd]:
    """A real clamd, or the test is skipped."""
    try:
        async with clamd(servers, tmp_path_factory.mktemp("clamd")) as found:
            yield found
    except InstallError as exc:
        if "clamd" in REQUIRE:
            raise
        NOT_COVERED.append(f"a real clamd: {exc}")
        pytest.skip(str(exc))


def scanned_by(desk: Desk, address: str) -> Any:
    return desk.settings.model_copy(update={"media": desk.settings.media.model_copy(update={"clamd": address})})


@pytest.mark.parametrize("way", ["tcp", "unix"])
async def test_clamd_decides(way: Literal["tcp", "unix"], scanner: Clamd, media_desk: Desk, files: Files) -> None:
    clean = os.urandom(PART_BYTES + 100)
    data = {
        "CLEAN": JPEG,
        "CLEANL": clean,
        "BAD": JPEG + INFECTED + JPEG,
        "BADL": bytes(PART_BYTES) + b"x" + INFECTED,
        "HUGE": os.urandom(STREAM_MAX_BYTES + PART_BYTES),
    }
    await media_desk.told(*(media_message(raw_id, files.add(raw_id, d)) for raw_id, d in data.items()))
    address = scanner.address if way == "tcp" else str(scanner.socket)
    async with downloading(media_desk, settings=scanned_by(media_desk, address)):
        jobs = await media_desk.settled()
    assert {raw_id: (j["download_status"], j["reason"]) for raw_id, j in jobs.items()} == {
        "CLEAN": ("stored", None), "CLEANL": ("stored", None), "BAD": ("skipped", "quarantined"),
        "BADL": ("skipped", "quarantined"), "HUGE": ("failed", "not_scanned"),
    }  # fmt: skip
    assert "Wapipe.Test" in jobs["BADL"]["last_error"]
    assert sorted(await media_desk.keys()) == sorted(
        f"sha256/{d.hex()[:2]}/{d.hex()[2:4]}/{d.hex()}" for d in (digest(JPEG), digest(clean))
    ), "bytes of quarantined files are gone, also of those that came in parts"
    await assert_tidy(media_desk, {digest(JPEG): 1, digest(clean): 1})


async def test_without_clamd_nothing_gets_through(
    scanner: Clamd, media_desk: Desk, files: Files, tmp_path: Path
) -> None:
    """Until it is there: files wait, and are stored then."""
    pauses, socket = Pauses("media"), tmp_path / "clamd.sock"
    await media_desk.told(*(media_message(f"A{n}", files.add(f"A{n}.jpeg", JPEG + bytes([n]))) for n in range(5)))
    async with downloading(media_desk, settings=scanned_by(media_desk, str(socket)), pauses=pauses):

        async def away() -> bool | None:
            return True if pauses.answer() == "scanner_away" else None

        await until(away, "/ready to say that the scanner is away")
        assert (await media_desk.states()).keys() <= {"pending", "running"}
        assert await media_desk.keys() == []
        socket.symlink_to(scanner.socket)
        jobs = await media_desk.settled()
    assert {(j["download_status"], j["asked"]) for j in jobs.values()} == {("stored", 0)}
