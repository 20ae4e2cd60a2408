"""The query API: messages, contacts and sessions as JSON, from the database alone; and the books.

`main` is the process `api`; `make_app` gives the same routes to the gateway, which serves them beside the
webhook. It writes nothing, does not talk to WAHA, asks Kafka for the books only, and starts and answers /health while
the database is away.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI

from pipeline.api import coverage, directory, docs, ledger, media, pictures, probes, problems, routes
from pipeline.api.middleware import Watch
from pipeline.api.models import ProblemDocument
from pipeline.api.store import Store
from pipeline.lifecycle import serve_http, stop_event
from pipeline.postgres import open_pool
from pipeline.settings import Settings, require_secret

if TYPE_CHECKING:
    import asyncpg

__all__ = ["main", "make_app"]

_DESCRIPTION = """Reads what the pipeline stored.

Every path under `/api` asks for the header `X-Api-Token`. Lists answer
`{"items": […], "next": cursor or null}`: give `next` as `before` to read on. Errors are problem
documents (RFC 9457)."""


async def main(settings: Settings) -> None:
    """Serves the API alone until the process is told to stop. Raises ConfigError without its secrets."""
    require_secret(settings.database.password, "WHATSAPP_DB_PASSWORD", "the database is reached with it")
    app = make_app(settings)
    await serve_http(app, host=settings.ingress.host, port=settings.api.port, stop=stop_event(), name="api")


def make_app(settings: Settings, pool: asyncpg.Pool[asyncpg.Record] | None = None) -> FastAPI:
    """The application. Raises ConfigError without a token.

    Without `pool` it opens one of its own when it starts (lifespan) and closes it, and what it opened of the object store
    (`app.state.media`), at the end. An application that is mounted gets no lifespan: there the caller gives the pool and
    closes both.
    """
    token = require_secret(settings.api.token, "WHATSAPP_GATEWAY_API_TOKEN", "clients of the API show it")

    @asynccontextmanager
    async def own_pool(app: FastAPI) -> AsyncIterator[None]:
        if pool is not None:
            yield
            return
        async with await open_pool(settings.database, name="api", max_size=settings.api.pool_size) as opened:
            app.state.store.pool = opened
            yield
            app.state.store.pool = None
            await app.state.media.close()

    app = _Api(
        title="wapipe query API",
        description=_DESCRIPTION,
        version=probes.installed_version(),
        lifespan=own_pool,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.token = token.encode()
    app.state.store = Store(pool)
    app.state.media = media.MediaDesk(settings)
    app.state.ledger = ledger.LedgerDesk(settings)
    problems.install(app)
    app.add_middleware(Watch)
    for part in (routes, directory, media, pictures, coverage, ledger, probes, docs):
        app.include_router(part.router)
    return app


class _Api(FastAPI):
    """FastAPI whose description names the problem document, which no route returns as its model."""

    def openapi(self) -> dict[str, Any]:
        """See class."""
        described = super().openapi()
        schema = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
        described["components"]["schemas"]["ProblemDocument"] = schema
        return described
