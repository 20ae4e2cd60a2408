"""Letters as plain data: for tables, JSON and export. Masked unless asked otherwise; an export holds everything."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from pipeline.dlq.letters import Group, Letter
from pipeline.dlq.masking import mask_detail, mask_digits, mask_json, mask_slug
from schemas.envelope import read_envelope
from schemas.reading import UnreadableError

_MAX_TEXT = 2000  # characters of a body that is no JSON


def describe_letter(letter: Letter, *, masked: bool = True) -> dict[str, Any]:
    """Everything but the payload."""
    death, key = letter.death, letter.key.decode("utf-8", "backslashreplace")
    return {
        "id": letter.id, "consumer": death.consumer, "state": letter.state,
        "reason": death.reason, "detail": mask_detail(death.detail) if masked else death.detail, "error": death.error,
        "stage": death.stage, "batch_records": death.batch_records, "halvings": death.halvings,
        "event": mask_slug(letter.event) if masked else letter.event,
        "session": mask_digits(letter.session) if masked else letter.session,
        "key": mask_digits(key) if masked else key,
        "size_bytes": letter.size_bytes, "attempts": death.attempts, "version": death.version,
        "recorded_at": to_time(death.time_ms), "first_dead_at": to_time(death.first_at_ms), "dead_at": to_time(death.at_ms),
        "history": [{"dead_at": to_time(p.at_ms), "reason": p.reason, "version": p.version} for p in death.history],
        "stands_at": {"topic": letter.at.topic, "partition": letter.at.partition, "offset": letter.at.offset},
    }  # fmt: skip


def describe_group(group: Group, now_ms: int) -> dict[str, Any]:
    """Counts and ages; the sample is described apart, since its payload must be fetched."""
    newest = group.sample.death.at_ms
    return {
        "reason": group.reason, "state": group.state, "letters": group.letters, "most_attempts": group.attempts,
        "oldest_at": to_time(group.oldest_at_ms), "oldest_age_s": max(0, now_ms - group.oldest_at_ms) // 1000,
        "newest_at": to_time(newest), "newest_age_s": max(0, now_ms - newest) // 1000,
        "events": {mask_slug(name): count for name, count in group.events.most_common()},
    }  # fmt: skip


def describe_payload(value: bytes, *, masked: bool = True) -> dict[str, Any]:
    """The body, decoded as far as possible: `json`, or else `text`; and why wapipe cannot read it, if so."""
    found: dict[str, Any] = {}
    try:
        read_envelope(value)
    except UnreadableError as exc:
        found["unreadable"] = exc.reason
    try:
        decoded = _decode(value)
    except ValueError as exc:
        found["not_json"] = str(exc)
        if not masked:
            found["text"] = value[:_MAX_TEXT].decode("utf-8", "backslashreplace")
        return found
    return found | {"json": mask_json(decoded) if masked else decoded}


def _decode(value: bytes) -> Any:
    """As JavaScript would: with NaN and lone surrogates, which strict decoders refuse. Raises ValueError, which says
    where the body breaks and quotes nothing of it."""
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError as strict:
        try:
            loose = json.loads(value.decode("utf-8"), parse_constant=str)
            return json.loads(json.dumps(loose, ensure_ascii=False).encode("utf-8", "replace"))
        except (ValueError, RecursionError):
            raise ValueError(f"breaks at character {strict.pos}") from None


def export_line(letter: Letter, record: Any) -> bytes:
    """A line of an export: everything, unmasked; keys, header values and the value as base64."""
    headers: Sequence[tuple[str, bytes | None]] = record.headers
    line = describe_letter(letter, masked=False) | {
        "key_base64": b64encode(letter.key).decode(),
        "headers": [{"name": n, "value_base64": None if v is None else b64encode(v).decode()} for n, v in headers],
        "value_base64": b64encode(record.value or b"").decode(),
    }
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def to_time(at_ms: int) -> str | None:
    """ISO 8601 with milliseconds; None for a time that is missing or odd."""
    try:
        return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds") if at_ms else None
    except (OverflowError, ValueError, OSError):
        return None
