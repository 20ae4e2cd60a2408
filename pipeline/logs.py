"""Structured logs: one JSON object a line, a constant slug as message, details as fields.

Never a message body, a phone number or a secret: callers pass ids of records (topic, partition, offset) instead.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

import orjson

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
_LIBRARY_LEVELS = {
    "aiokafka": "ERROR",
    "httpx": "WARNING",
    "wapipe.faststream": "ERROR",
    "uvicorn.access": "WARNING",
    "asyncio": "WARNING",
}


class JsonFormatter(logging.Formatter):
    """Record -> one JSON line with at (RFC 3339), level, logger, event, and whatever was given as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """See class."""
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "at": f"{at}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "event": record.getMessage(),
        }
        line |= {k: v for k, v in vars(record).items() if k not in _STANDARD}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


class RateLimit(logging.Filter):
    """Lets `burst` lines of one (logger, text) through every `period_s`: aiokafka logs thousands a second in an outage."""

    def __init__(self, burst: int = 5, period_s: float = 10.0) -> None:
        super().__init__()
        self._burst, self._period_s = burst, period_s
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """See class."""
        key = (record.name, str(record.msg)[:80])
        since, count = self._seen.get(key, (record.created, 0))
        if record.created - since > self._period_s:
            since, count = record.created, 0
        if len(self._seen) > 500:
            self._seen.clear()
        self._seen[key] = (since, count + 1)
        return count < self._burst


def setup_logging(level: str) -> None:
    """Sends everything to stderr as JSON; libraries that chatter are quietened and rate-limited."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    limit = RateLimit()
    handler.addFilter(lambda r: True if r.name.startswith("wapipe") else limit.filter(r))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name, least in _LIBRARY_LEVELS.items():
        logging.getLogger(name).setLevel(least)
