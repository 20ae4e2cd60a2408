"""The API where no database matters: tokens, problem documents, headers, metrics, OpenAPI, the docs page."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY
from starlette.applications import Starlette
from starlette.routing import Mount

from pipeline.api import make_app
from pipeline.errors import ConfigError
from pipeline.settings import Settings, load_settings

TOKEN = "a-token-of-our-own"
CHAT = "/api/messages/default/4915123456789@c.us"
LISTS = [*(f"/api/{what}/default" for what in ("contacts", "groups", "calls", "chats")), "/api/sessions"]


class BrokenConnection:
    """Every statement fails with `error`."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def fetch(self, *_: Any) -> Any:
        raise self.error

    fetchrow = fetchval = fetch


class FakePool:
    """As much of a pool as the store uses."""

    def __init__(self, error: Exception) -> None:
        self.connection = BrokenConnection(error)

    @asynccontextmanager
    async def acquire(self, *, timeout: float) -> AsyncIterator[BrokenConnection]:  # noqa: ASYNC109 - asyncpg's
        assert timeout > 0
        yield self.connection


def settings(**more: str) -> Settings:
    return load_settings({"WHATSAPP_GATEWAY_API_TOKEN": TOKEN, **more})


def app(error: Exception | None = None) -> FastAPI:
    return make_app(settings(), FakePool(error or AssertionError("the database must not be asked")))  # type: ignore[arg-type]


def client(of: Any, token: str | None = TOKEN) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(of, raise_app_exceptions=False)
    headers = {b"X-Api-Token": token.encode()} if token is not None else {}
    return httpx.AsyncClient(transport=transport, base_url="http://api", headers=headers)


def is_problem(answer: httpx.Response, status: int, kind: str) -> str:
    """Asserts RFC 9457's shape; returns the detail."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    body = answer.json()
    assert set(body) == {"type", "title", "status", "detail", "instance"}
    assert body["status"] == status
    assert body["type"] == f"/problems/{kind}"
    assert body["instance"].isascii()
    assert unquote(body["instance"]) == answer.request.url.path
    return str(body["detail"])


@pytest.mark.parametrize("path", [CHAT, *LISTS, "/api/ledger"])
@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN + "x", "tökén"])
async def test_without_the_token_nothing_is_read(path: str, token: str | None) -> None:
    async with client(app(), token) as http:
        answer = await http.get(path, params={"limit": "nonsense"})  # the token is looked at first
    assert "X-Api-Token" in is_problem(answer, 401, "unauthorized")
    assert answer.headers["www-authenticate"]
    assert TOKEN not in answer.text


async def test_a_token_that_is_not_ascii_works() -> None:
    made = make_app(load_settings({"WHATSAPP_GATEWAY_API_TOKEN": "schlüssel"}), FakePool(OSError()))  # type: ignore[arg-type]
    transport = httpx.ASGITransport(made)
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as http:
        answer = await http.get("/api/sessions", headers={b"X-Api-Token": "schlüssel".encode()})
    assert answer.status_code == 503


@pytest.mark.parametrize("env", [{}, {"WHATSAPP_GATEWAY_API_TOKEN": "seu-api-token-aqui"}])
def test_it_does_not_start_without_a_secret_of_its_own(env: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="WHATSAPP_GATEWAY_API_TOKEN"):
        make_app(load_settings(env))


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "501"}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"before": "abc"}, "before"),
        ({"before": ""}, "before"),
        ({"offset": "50"}, "offset"),
    ],
)
@pytest.mark.parametrize("path", [CHAT, *LISTS])
async def test_a_bad_parameter_is_named(path: str, query: dict[str, str], names: str) -> None:
    async with client(app()) as http:
        assert names in is_problem(await http.get(path, params=query), 422, "bad-parameter")


@pytest.mark.parametrize("chat", ["maria", "@c.us", "%00", "%C3%BC 1", "a%3Fb%23", "49%0051@c.us"])
async def test_a_bad_chat_is_explained(chat: str) -> None:
    async with client(app()) as http:
        detail = is_problem(await http.get(f"/api/messages/default/{chat}"), 422, "bad-parameter")
    assert detail.startswith("chat: write a phone number")


async def test_a_path_or_method_that_is_not_there() -> None:
    async with client(app()) as http:
        for path in (
            "/",
            "/api",
            "/api/messages/default",
            "/api/sessions/",
            "/docs/../secret",
            "/docs/redoc.standalone.js",
        ):
            is_problem(await http.get(path), 404, "no-such-path")
        answer = await http.post("/api/sessions")
        is_problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == "GET"


@pytest.mark.parametrize("error", [ConnectionRefusedError(), TimeoutError(), asyncio.IncompleteReadError(b"", 5)])
@pytest.mark.parametrize("path", [CHAT, "/api/contacts/default", "/api/sessions", "/ready"])
async def test_a_database_that_is_away_is_a_503(path: str, error: Exception) -> None:
    async with client(app(error)) as http:
        answer = await http.get(path)
        assert "postgres" in is_problem(answer, 503, "dependency-away")
        assert answer.headers["retry-after"] == "5"
        health = await http.get("/health")
    assert health.status_code == 200
    assert health.json()["name"] == "wapipe api"


async def test_without_a_pool_it_is_away_too() -> None:
    async with client(make_app(settings())) as http:
        is_problem(await http.get("/ready"), 503, "dependency-away")


async def test_a_bug_shows_no_stack() -> None:
    async with client(app(ZeroDivisionError("secret detail"))) as http:
        answer = await http.get("/api/sessions")
    is_problem(answer, 500, "internal-error")
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text


async def test_a_session_with_nul_is_unknown() -> None:
    async with client(app()) as http:
        is_problem(await http.get("/api/messages/a%00b/4915123456789"), 404, "no-such-session")
        is_problem(await http.get("/api/contacts/a%00b"), 404, "no-such-session")


def _requests(route: str, status: str) -> float:
    return REGISTRY.get_sample_value("wapipe_api_requests_total", {"route": route, "status": status}) or 0.0


async def test_requests_are_counted_by_template() -> None:
    template = "/api/messages/{session}/{chat}"
    seen = {r: _requests(*r) for r in ((template, "422"), ("/api/sessions", "405"), ("unmatched", "404"))}
    bugs = _requests("/api/sessions", "500")
    async with client(app(ZeroDivisionError())) as http:
        await http.get("/api/messages/default/maria")
        await http.post("/api/sessions")
        await http.get("/no/such/4915123456789")
        await http.get("/api/sessions")
        text = (await http.get("/metrics")).text
    assert {r: _requests(*r) - n for r, n in seen.items()} == dict.fromkeys(seen, 1.0)
    assert _requests("/api/sessions", "500") == bugs + 1
    assert f'wapipe_api_request_seconds_count{{route="{template}"}}' in text
    assert "4915123456789" not in text


async def test_mounted_it_behaves_the_same() -> None:
    """As the gateway uses it: behind routes of its own, on one port."""
    outer = Starlette(routes=[Mount("/", app())])
    async with client(outer) as http:
        is_problem(await http.get("/api/messages/default/maria"), 422, "bad-parameter")
        is_problem(await http.get("/nothing"), 404, "no-such-path")
        assert (await http.get("/health")).status_code == 200
        assert (await http.get("/openapi.json")).json()["paths"]["/api/sessions"]
    assert _requests("/api/messages/{session}/{chat}", "422") > 0


async def test_the_description_is_complete() -> None:
    async with client(app(), None) as http:
        described = (await http.get("/openapi.json")).json()
    assert set(described["paths"]) == {
        "/api/messages/{session}/{chat}", "/api/messages/{session}/{chat}/{message}",
        "/api/contacts/{session}", "/api/contacts/{session}/{chat}/picture", "/api/groups/{session}",
        "/api/groups/{session}/{group}", "/api/calls/{session}",
        "/api/chats/{session}", "/api/sessions", "/api/ledger", "/health",
        "/api/coverage/{session}", "/api/coverage/{session}/{chat}",
        "/ready", "/api/media", "/api/media/{session}/{message}", "/api/media/{session}/{message}/thumbnail",
    }  # fmt: skip
    assert described["components"]["securitySchemes"]["token"]["name"] == "X-Api-Token"
    for path, item in described["paths"].items():
        if not path.startswith("/api"):
            continue
        assert item["get"]["security"] == [{"token": []}]
        refusals = {"401", "503"} | ({"422"} if "parameters" in item["get"] else set())
        assert {"200", *refusals} <= set(item["get"]["responses"])
        for status in refusals:
            assert "application/problem+json" in item["get"]["responses"][status]["content"]
    references = set(re.findall(r'"#/components/schemas/(\w+)"', httpx.Response(200, json=described).text))
    assert references <= set(described["components"]["schemas"])


async def test_the_docs_page_needs_nobody_else() -> None:
    async with client(app(), None) as http:
        page = await http.get("/docs")
        assert page.headers["content-type"].startswith("text/html")
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert "unsafe-inline" not in page.headers["content-security-policy"].split("style-src")[0]
        assert not re.search(r"https?:|//\w|<script>", page.text)
        wanted = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert {"docs/swagger-ui-bundle.js", "docs/swagger-ui.css", "docs/start.js", "openapi.json"} <= set(wanted)
        for name in wanted:
            answer = await http.get(f"/{name}")
            assert answer.status_code == 200, name
            assert answer.headers["x-content-type-options"] == "nosniff"
        assert (await http.get("/docs/start.js")).headers["content-type"].startswith("text/javascript")
