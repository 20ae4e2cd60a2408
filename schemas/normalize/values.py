"""Reading single fields of payloads that may hold anything: a wrong type reads as missing, a wrong unit is mended."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

_MS_FROM = 100_000_000_000  # as seconds this is the year 5138, as milliseconds 1973: larger values are milliseconds
_MAX_MS = 32_503_680_000_000  # the year 3000


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


def time_ms(value: Any) -> int | None:
    """Unix milliseconds from seconds or milliseconds (told apart by size), int, float or text; None when absent or absurd."""
    amount = value if type(value) is int else number(value)
    if amount is None:
        return None
    if amount < _MS_FROM:
        amount *= 1000
    return round(amount) if 0 < amount < _MAX_MS else None


def iso_ms(value: Any) -> int | None:
    """Unix milliseconds of an RFC 3339 text (Go and JavaScript write UTC so), or None."""
    if type(value) is not str or len(value) > 40:
        return None
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        return None
    return time_ms((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp())


def count(value: Any) -> int | None:
    """A whole number from 0 that fits PostgreSQL's bigint, also when written as text, or None."""
    amount = value if type(value) is int else number(value)
    return int(amount) if amount is not None and 0 <= amount < 2**53 else None
