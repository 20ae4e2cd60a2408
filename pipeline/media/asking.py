"""Asks WAHA's REST for a message by id, whose file WAHA then downloads from WhatsApp again."""

from __future__ import annotations

from pipeline.errors import TransientError
from pipeline.media.sources import NotNowError, Place
from pipeline.waha.errors import (
    EngineError,
    NotThereError,
    RefusedError,
    SessionNotReadyError,
    StoreDisabledError,
    TooLargeError,
)
from pipeline.waha.servers import WahaServers
from schemas.ids import DEFAULT_SOURCE, qualify_session

_NO_FILE = (NotThereError, RefusedError, StoreDisabledError, TooLargeError, EngineError)
_SESSION_WAIT_S = 60.0


class Asking:
    """An AskAgain over the servers' clients, whose limits and breaker are their own."""

    def __init__(self, servers: WahaServers) -> None:
        self._servers = servers

    async def __call__(self, source: str, session: str, chat: str, message_id: str) -> Place | None:
        """See AskAgain. An engine that fails at this one message (500) has no file for us; it is asked again later."""
        waha, name = self._servers.of(qualify_session(source or DEFAULT_SOURCE, session))
        try:
            found = await waha.message(name, chat, message_id, download_media=True)
        except _NO_FILE:
            return None
        except SessionNotReadyError as exc:  # of this session alone: others of the server go on
            raise NotNowError(_SESSION_WAIT_S) from exc
        except TimeoutError as exc:
            raise TransientError("waha", "no answer in time") from exc
        if found is None or found.media is None or found.media.error:
            return None
        if found.media.url is None and found.media.key is None:
            return None
        return Place(found.media.url, found.media.bucket, found.media.key)
