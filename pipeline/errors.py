"""The errors of wapipe: the class says what the caller's loop does with it.

Adapters translate driver errors into these at their edge; nothing else in the code catches a driver's error.
"""

from __future__ import annotations


class WapipeError(Exception):
    """Something in wapipe went wrong."""


class ConfigError(WapipeError):
    """The configuration cannot work. Nothing was started; the command exits 78 (EX_CONFIG of sysexits.h)."""

    exit_code = 78


class PoisonError(WapipeError):
    """This one record can never be stored. It is dead-lettered with `reason`, the batch goes on.

    `reason` is a short slug of a closed set (a metric label); `detail` is for people and holds no payload.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class TransientError(WapipeError):
    """A dependency is away or busy. The batch is kept, the loop pauses and tries again.

    `dependency` names who is away (`kafka`, `postgres`, `s3`, `waha`): a metric label.
    """

    def __init__(self, dependency: str, detail: str) -> None:
        super().__init__(f"{dependency} is away: {detail}")
        self.dependency = dependency
        self.detail = detail


class FatalError(WapipeError):
    """An invariant is broken. Nothing is committed, the process exits 70 (EX_SOFTWARE) and says why."""

    exit_code = 70


class RejectedError(WapipeError):
    """A request is refused with an HTTP status; no stack trace is logged.

    `reason` is a slug of a closed set: it is a metric label and the answer's body.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{status} {reason}")
        self.status = status
        self.reason = reason
