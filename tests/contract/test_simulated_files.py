"""The files of the simulated WAHA: true to the payload's length and hash, served and lost as WAHA does it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator

import httpx
import pytest

from producers.simulator import ENGINES
from producers.simulator.facts import Message
from producers.simulator.files import file_of
from producers.simulator.payloads import PAYLOADS
from producers.simulator.rest import Past, RestServer, SimulatedWaha
from tests.simulated_waha import served

KEY = {"X-Api-Key": "a-key-of-the-tests"}


@pytest.fixture
def server() -> RestServer:
    return RestServer(SimulatedWaha(Past(messages=150, chats=5, media=0.6)), KEY["X-Api-Key"])


@pytest.fixture
async def http(server: RestServer) -> AsyncIterator[httpx.AsyncClient]:
    async with served(server) as url, httpx.AsyncClient(base_url=url, headers=KEY, trust_env=False) as client:
        yield client


def pictured(server: RestServer, engine: str) -> Message:
    session = next(s for s in server.waha.sessions.values() if s.account.engine == engine)
    return next(m for m in session.by_raw_id.values() if m.content.kind == "image")


def path_of(message: Message) -> str:
    """Of the URL that the payload says, which names localhost."""
    url: str = PAYLOADS[message.account.engine].message(message)["media"]["url"]
    assert url.startswith("http://localhost:3000/")
    return url.removeprefix("http://localhost:3000")


@pytest.mark.parametrize("engine", ENGINES)
async def test_served_while_it_lives(server: RestServer, http: httpx.AsyncClient, engine: str) -> None:
    message = pictured(server, engine)
    gone = await http.get(path_of(message))
    assert gone.status_code == 404
    assert gone.json()["statusCode"] == 404
    assert gone.json()["message"].startswith("ENOENT")
    server.files.emitted(message)
    answer = await http.get(path_of(message))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.content == file_of(message.raw_id, "image")
    server.files.clock = lambda: server.files.born_at(message.account.session, message.raw_id) + 180
    assert (await http.get(path_of(message))).status_code == 404


def test_payloads_know_length_and_hash_of_their_files(server: RestServer) -> None:
    seen = 0
    for session in server.waha.sessions.values():
        for message in session.by_raw_id.values():
            data = PAYLOADS[session.account.engine].message(message)["_data"]
            proto = data.get("message") or data.get("Message") or {}
            part = next(
                (v for k, v in proto.items() if isinstance(v, dict) and ("fileSha256" in v or "fileSHA256" in v)), None
            )
            if part is None and "filehash" not in data:
                continue
            file = file_of(message.raw_id, message.content.kind)
            digest = hashlib.sha256(file).digest()
            if part is None:
                assert (data["size"], base64.b64decode(data["filehash"])) == (len(file), digest)
            elif "fileSHA256" in part:
                assert (part["fileLength"], base64.b64decode(part["fileSHA256"])) == (len(file), digest)
            else:
                assert (part["fileLength"], bytes(part["fileSha256"]["data"])) == (str(len(file)), digest)
            seen += 1
    assert seen > 100


async def test_key_etag_and_ranges(server: RestServer, http: httpx.AsyncClient) -> None:
    message = pictured(server, "NOWEB")
    server.files.emitted(message)
    path, whole = path_of(message), file_of(message.raw_id, "image")
    assert (await http.get(path, headers={"X-Api-Key": "wrong"})).status_code == 401
    answer = await http.get(path)
    assert answer.headers["accept-ranges"] == "bytes"
    assert (await http.get(path, headers={"If-None-Match": answer.headers["etag"]})).status_code == 304
    part = await http.get(path, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, whole[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(whole)}"
    assert (await http.get(path, headers={"Range": "bytes=-5"})).content == whole[-5:]
    assert (await http.get(path, headers={"Range": f"bytes={len(whole)}-"})).status_code == 416


async def test_what_goes_wrong_on_demand(server: RestServer, http: httpx.AsyncClient) -> None:
    message = pictured(server, "GOWS")
    server.files.emitted(message)
    path, whole = path_of(message), file_of(message.raw_id, "image")
    for kind in ("truncated", "short", "wrong_bytes", "empty", "redirect", "gone", "slow"):
        server.faults.add(kind, times=1, delay_s=0.001)
    with pytest.raises(httpx.RemoteProtocolError):
        await http.get(path)
    assert (await http.get(path)).content == whole[: len(whole) // 2]
    wrong = (await http.get(path)).content
    assert len(wrong) == len(whole)
    assert wrong != whole
    assert (await http.get(path)).content == b""
    redirected = await http.get(path)
    assert (redirected.status_code, redirected.headers["location"][:7]) == (302, "http://")
    assert (await http.get(path)).status_code == 404
    assert (await http.get(path)).content == whole
    server.faults.add("huge", size_bytes=3_000_000)
    assert len((await http.get(path)).content) == 3_000_000


async def test_traffic_of_another_process_is_served_from_its_first_request_on(
    server: RestServer, http: httpx.AsyncClient
) -> None:
    path = "/api/files/elsewhere/false_49151@c.us_3EB0AAAA.pdf"
    answer = await http.get(path)
    assert answer.content == file_of("3EB0AAAA", "document")
    server.files.expire()
    assert (await http.get(path)).status_code == 404


async def test_faults_by_http(server: RestServer, http: httpx.AsyncClient) -> None:
    assert (await http.post("/simulator/faults", json={"kind": "nonsense"})).status_code == 400
    assert (await http.post("/simulator/faults", json={"kind": "status", "nonsense": 1})).status_code == 400
    assert (await http.post("/simulator/faults", json={"kind": "status", "status": 503})).status_code == 200
    assert (await http.get("/api/sessions")).status_code == 503
    await http.delete("/simulator/faults")
    assert (await http.get("/api/sessions")).status_code == 200
    assert (await http.get("/simulator/requests")).json()["requests"]["/api/sessions"] == 1
