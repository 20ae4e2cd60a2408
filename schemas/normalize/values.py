"""Reading single fields of payloads that may hold anything: a wrong type reads as missing, a wrong unit is mended."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

_MS_FROM = 100_000_000_000  # as seconds this is the year 5138, as milliseconds 1973: larger values are milliseconds
_MAX_S = 32_503_680_000  # the year 3000


def text(value: Any) -> str | None:
    """A non-empty text, or None."""
    return value if type(value) is str and value else None


def obj(value: Any) -> dict[str, Any]:
    """A dict, or an empty one."""
    return value if type(value) is dict else {}


def number(value: Any) -> float | None:
    """A finite number, also when written as text (NOWEB's and GOWS' coordinates), or None."""
    if type(value) is str:
        try:
            value = float(value)
        except ValueError:
            return None
    if type(value) is int:
        return float(value) if abs(value) < 2**63 else None
    return value if type(value) is float and math.isfinite(value) else None


def time(value: Any) -> datetime | None:
    """A time from seconds or milliseconds (told apart by size), int, float or text; None when absent or absurd."""
    seconds = number(value)
    if seconds is None:
        return None
    if seconds >= _MS_FROM:
        seconds /= 1000
    if not 0 < seconds < _MAX_S:
        return None
    return datetime.fromtimestamp(seconds, UTC)
