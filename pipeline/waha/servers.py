"""Every configured WAHA server by its source; a session knows its own (`source:session`, or a plain name for the default)."""

from __future__ import annotations

from contextlib import AsyncExitStack

from pipeline.errors import ConfigError
from pipeline.sections_waha import WahaSettings
from pipeline.settings import require_secret
from pipeline.waha.calls import Waha
from pipeline.waha.client import Limits, WahaClient
from schemas.ids import DEFAULT_SOURCE


class WahaServers:
    """The clients of all servers. Enter it as an async context. Raises ConfigError for an API key that is a placeholder."""

    def __init__(self, settings: WahaSettings) -> None:
        limits = Limits(
            settings.max_in_flight,
            settings.rate_per_s,
            settings.timeout_s,
            settings.deadline_s,
            settings.max_answer_bytes,
        )
        self._by_source: dict[str, Waha] = {}
        for source, url in settings.base_urls().items():
            name, key = "WHATSAPP_API_KEY", settings.api_key
            if source != DEFAULT_SOURCE:
                name, key = "WAPIPE_WAHA_SOURCE_API_KEYS", settings.source_api_keys.get(source)
            secret = require_secret(key, name, f"WAHA ({source}) is read with it") if key else None
            self._by_source[source] = Waha(WahaClient(url, secret, limits, source=source))
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> WahaServers:
        for waha in self._by_source.values():
            await self._stack.enter_async_context(waha.client)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def items(self) -> list[tuple[str, Waha]]:
        """Every server with its source, the default one first."""
        return list(self._by_source.items())

    def has(self, session: str) -> bool:
        """Whether the session's server is configured."""
        return split_session(session)[0] in self._by_source

    def of(self, session: str) -> tuple[Waha, str]:
        """The server of a session and the session's name there. Raises ConfigError when its source has no URL."""
        source, name = split_session(session)
        if source not in self._by_source:
            raise ConfigError(f"WAPIPE_WAHA_SOURCE_URLS has no server for the source {source!r} of session {session!r}")
        return self._by_source[source], name


def split_session(session: str) -> tuple[str, str]:
    """Source and name of a qualified session; WAHA's own names hold no colon."""
    source, colon, name = session.partition(":")
    return (source, name) if colon else (DEFAULT_SOURCE, session)
