"""What `list` and `show` say, as plain data: counts by reason with a sample each, or everything about one letter."""

from __future__ import annotations

import math
import time
from typing import Any

from pipeline.dlq.box import Box, Report, process_of, silent
from pipeline.dlq.describe import describe_group, describe_letter, describe_payload
from pipeline.dlq.letters import PARKED_BOX, Letter, Selection, State, to_groups
from pipeline.dlq.trial import try_letters
from pipeline.postgres import Pool, translated
from sql import queries


async def summarise(box: Box, state: State | None, *, masked: bool = True, report: Report = silent) -> dict[str, Any]:
    """One consumer's letters in groups, each with its newest letter as a sample. Raises TransientError."""
    letters = await box.read(Selection(state=state), report)
    now_ms = time.time_ns() // 1_000_000
    groups: list[dict[str, Any]] = []
    kept_ms = await box.kept_ms() if letters else math.inf
    for group in to_groups(box.consumer, letters):
        sample = describe_letter(group.sample, masked=masked) | await _payload(box, group.sample, masked=masked)
        left_s = None if math.isinf(kept_ms) else int(group.oldest_at_ms + kept_ms - now_ms) // 1000
        groups.append(describe_group(group, now_ms) | {"oldest_deleted_in_s": left_s, "sample": sample})
    return {
        "consumer": box.consumer, "letters": len(letters), "redriven_not_read_yet": await box.waiting(), "groups": groups,
    }  # fmt: skip


async def explain(box: Box, letter: Letter, *, masked: bool = True) -> dict[str, Any]:
    """Everything about one letter, what was decided about it, and whether it would pass now. Raises TransientError."""
    record = await box.fetch_one(letter)
    found = describe_letter(letter, masked=masked)
    found["decisions"] = await decisions_about(box, letter)
    if record is None:
        return found | {"payload": {}, "now": None}
    now = None
    if box.consumer != PARKED_BOX:
        [verdict] = await try_letters(box.pool, process_of(box), [(letter, record)])
        now = verdict.describe(masked=masked)
    return found | {"now": now, "payload": describe_payload(record.value or b"", masked=masked)}


async def decisions_about(box: Box, letter: Letter) -> list[dict[str, Any]]:
    """Oldest first."""
    async with translated():
        rows = await box.pool.fetch(queries("deadletters")["decisions_about"], box.consumer, *letter.origin)
    return [dict(r) | {"decided_at": r["decided_at"].isoformat()} for r in rows]


async def decisions(box_name: str | None, pool: Pool, limit: int) -> list[dict[str, Any]]:
    """The newest decisions of one consumer or of all. Raises TransientError."""
    async with translated():
        rows = await pool.fetch(queries("deadletters")["decisions"], box_name, limit)
    return [dict(r) | {"decided_at": r["decided_at"].isoformat()} for r in rows]


async def _payload(box: Box, letter: Letter, *, masked: bool) -> dict[str, Any]:
    record = await box.fetch_one(letter)
    return {} if record is None else {"payload": describe_payload(record.value or b"", masked=masked)}
