"""The recorded and the sample deliveries, by the names that the golden files of this folder use."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import orjson

HERE = Path(__file__).parent
FIXTURES = HERE.parent.parent / "fixtures"


class Delivery(NamedTuple):
    """One webhook of tests/fixtures: a sample by its name, a recorded one by `observed <raw id or event>`."""

    name: str
    event: str
    engine: str
    body: bytes

    def __str__(self) -> str:
        return f"{self.name} [{self.event}]"


def deliveries() -> list[Delivery]:
    """Every line of both fixture files."""
    files = ("waha_samples.jsonl", "waha_observed.jsonl")
    return [_delivery(line) for file in files for line in (FIXTURES / file).read_bytes().splitlines()]


def golden(subject: str) -> list[dict[str, Any]]:
    """What is expected of one subject."""
    found: list[dict[str, Any]] = orjson.loads((HERE / f"{subject}.json").read_bytes())
    return found


def _delivery(line: bytes) -> Delivery:
    record = orjson.loads(line)
    body = record["body"].encode()
    envelope = orjson.loads(body)
    event = envelope["event"]
    what = envelope["payload"]["id"].split("_")[2] if event in ("message", "message.any") else event
    return Delivery(record.get("name") or f"observed {what}", event, envelope["engine"], body)
