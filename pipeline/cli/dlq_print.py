"""How `wapipe dlq` looks on a terminal."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.dlq.letters import PARKED_BOX
from pipeline.dlq.trial import Verdict

_SAMPLE_CHARS = 300
_WARN_BEFORE_S = 14 * 86_400
_UNITS = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))


def print_boxes(boxes: Sequence[dict[str, Any]], out: Console) -> None:
    """All boxes as one table, then a sample of each group."""
    groups = [(box["consumer"], group) for box in boxes for group in box["groups"]]
    if groups:
        table = Table("consumer", "reason", "state", "letters", "oldest", "newest", "died", "events")
        for consumer, group in groups:
            table.add_row(*map(Text, _group_row(consumer, group)))
        out.print(table)
    for consumer, group in groups:
        sample = group["sample"]
        out.print(f"\nnewest of {consumer}, {group['reason']}: {sample['id']}", style="bold", soft_wrap=True)
        out.print(
            f"  {sample['detail'] or sample['error'] or sample['reason']}; {sample['size_bytes']:,} bytes",
            soft_wrap=True,
        )
        out.print(f"  {_payload_line(sample.get('payload'))}", soft_wrap=True)
        left_s = group["oldest_deleted_in_s"]
        if group["state"] == "open" and left_s is not None and left_s < _WARN_BEFORE_S:
            out.print(f"  the oldest is deleted by retention in {to_age(max(0, left_s))}", style="bold red")
    for box in boxes:
        if box["redriven_not_read_yet"]:
            waiting = letters(box["redriven_not_read_yet"])
            out.print(f"{box['consumer']}: {waiting} redriven and not read yet")
    if not groups:
        out.print("no letters")


def print_letter(found: dict[str, Any], out: Console) -> None:
    """One letter, a line for each thing that is known of it."""
    out.print(f"{found['id']}  {found['state']}, {_fate(found)}", style="bold", soft_wrap=True)
    decided = (f"{d['decided_at']} {d['action']} by {d['decided_by']} {d['because']}" for d in found["decisions"])
    lines = [
        ("why", " ".join(filter(None, (found["reason"], found["detail"], _evidence(found))))),
        ("since", f"{found['dead_at']}, version {found['version'] or 'unknown'}; first {found['first_dead_at']}"),
        *[("before", f"{p['dead_at']} {p['reason']} version {p['version']}") for p in found["history"]],
        *[("decided", text) for text in decided],
        ("event", f"{found['event'] or '(none)'}, session {found['session'] or '(none)'}, key {found['key']}"),
        ("record", f"of {found['recorded_at']}, {found['size_bytes']:,} bytes"),
    ]
    if found["now"] is not None:
        lines.append(("now", _now(found["now"])))
    for name, text in lines:
        out.print(f"{name:<8} {text}", soft_wrap=True)
    payload = found["payload"]
    for name in ("unreadable", "not_json", "text"):
        if name in payload:
            out.print(f"{name}: {payload[name]}", soft_wrap=True)
    if "json" in payload:
        out.print(json.dumps(payload["json"], ensure_ascii=False, indent=2), soft_wrap=True)


def print_verdicts(verdicts: Sequence[Verdict], out: Console, *, as_json: bool) -> None:
    """How many would pass now, and why the others would not."""
    failing = Counter(v.reason for v in verdicts if not v.passes)
    passing, skipped = sum(v.passes for v in verdicts), sum(v.skipped for v in verdicts)
    if as_json:
        found = {
            "letters": len(verdicts), "would_pass": passing, "of_them_skipped_by_name": skipped,
            "would_fail": dict(failing.most_common()), "failing": [v.describe() for v in verdicts if not v.passes],
        }  # fmt: skip
        typer.echo(json.dumps(found, ensure_ascii=False, indent=2))
        return
    out.print(
        f"{passing:,} of {letters(len(verdicts))} would pass now"
        + (f" ({skipped:,} skipped by name)" if skipped else "")
    )
    for reason, count in failing.most_common():
        example = next(v for v in verdicts if not v.passes and v.reason == reason)
        out.print(f"{count:,} would fail again: {reason}, for example {example.letter.id}", soft_wrap=True)


def print_decisions(found: Sequence[dict[str, Any]], out: Console) -> None:
    """The audit, newest first."""
    table = Table("when", "consumer", "what", "letters", "which", "by", "because")
    for d in found:
        what = (d["consumer"], d["action"], f"{d['letters']:,}", d["selection"], d["decided_by"], d["because"])
        table.add_row(d["decided_at"][:19], *map(Text, what))
    out.print(table) if found else out.print("nothing was decided yet")


def letters(count: int, what: str = "letter") -> str:
    """1 letter, 2 letters."""
    return f"{count:,} {what}" + ("" if count == 1 else "s")


def to_age(seconds: int) -> str:
    """In its largest unit: 3 d, 5 h, 12 min, 8 s."""
    unit, size = next((u for u in _UNITS if seconds >= u[1]), _UNITS[-1])
    return f"{seconds // size} {unit}"


def _fate(found: dict[str, Any]) -> str:
    if found["consumer"] == PARKED_BOX:
        return "parked"
    return "died once" if found["attempts"] == 1 else f"died {found['attempts']} times"


def _evidence(found: dict[str, Any]) -> str:
    """How the record was found to be the bad one."""
    said = [found["error"]] if found["error"] else []
    if found["stage"] == "write":
        said.append(f"found alone after {found['halvings']} halvings of {letters(found['batch_records'], 'record')}")
    return f"({', '.join(said)})" if said else ""


def _group_row(consumer: str, group: dict[str, Any]) -> list[str]:
    events = ", ".join(f"{name or '(none)'} {count:,}" for name, count in list(group["events"].items())[:5])
    return [
        consumer, group["reason"], group["state"], f"{group['letters']:,}", to_age(group["oldest_age_s"]),
        to_age(group["newest_age_s"]), f"{group['most_attempts']}×", events,
    ]  # fmt: skip


def _payload_line(payload: dict[str, Any] | None) -> str:
    if payload is None:
        return "(deleted by retention meanwhile)"
    if "json" in payload:
        text = json.dumps(payload["json"], ensure_ascii=False, separators=(",", ":"))
    else:
        text = payload.get("text") or f"no JSON: {payload['not_json']}"
    return text if len(text) <= _SAMPLE_CHARS else text[:_SAMPLE_CHARS] + "…"


def _now(verdict: dict[str, Any]) -> str:
    if verdict["passes"]:
        return "would be skipped by its name" if verdict["skipped"] else "would be stored"
    return f"would fail again: {verdict['reason']} {verdict['detail']}"
