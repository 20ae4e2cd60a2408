"""What an answer of WAHA's REST means to whoever asked. See waha.client for which answer becomes which."""

from __future__ import annotations

from pipeline.errors import TransientError, WapipeError


class WahaAwayError(TransientError):
    """The server cannot be reached, is overloaded or is no WAHA at the moment. Try again, not before `retry_after_s`."""

    def __init__(self, detail: str, retry_after_s: float = 0.0) -> None:
        super().__init__("waha", detail)
        self.retry_after_s = retry_after_s


class EngineError(WahaAwayError):
    """The server is there, and its engine failed at this call (500). It may pass; it may also fail for ever."""


class KeyRefusedError(WahaAwayError):
    """401 or 403: the API key is wrong or may not read. An operator has to set it right; nothing is lost meanwhile."""


class SessionNotReadyError(WahaAwayError):
    """422: the session exists and does not work now (`status` as WAHA spells it, "" when it does not say), or is unknown."""

    def __init__(self, detail: str, status: str = "") -> None:
        super().__init__(detail)
        self.status = status


class NotThereError(WapipeError):
    """404: WAHA does not have (any more) what was asked for."""


class StoreDisabledError(WapipeError):
    """The session keeps no history that could be read (NOWEB without its store)."""

    def __init__(self) -> None:
        super().__init__(
            "the session's store is switched off: set config.noweb.store.enabled=true (and fullSync=true for more than "
            "three months) in WAHA, and pair the session again"
        )


class RefusedError(WapipeError):
    """Another 4xx: WAHA does not take this request, now or later."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"WAHA answered {status}: {detail}")
        self.status = status


class TooLargeError(WapipeError):
    """The answer is larger than WAPIPE_WAHA_MAX_ANSWER_BYTES."""
