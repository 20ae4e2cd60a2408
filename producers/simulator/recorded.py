"""Deliveries recorded from a real WAHA (2026.4.1 Core, NOWEB), played again byte for byte.

The file is package data, so that the demo has it without the tests. Its signatures were made with `test-key`.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files

import orjson

from producers.simulator.delivery import Delivery, message_id_of
from producers.simulator.envelopes import sign

RECORDED_KEY = "test-key"
_FILE = "recorded/waha_2026_4_1_noweb.jsonl"


def recorded(hmac_key: str | None = None) -> Iterator[Delivery]:
    """Every recorded delivery in its order, exactly as it came; `hmac_key` signs it anew."""
    with files("producers.simulator").joinpath(_FILE).open("rb") as lines:
        first_ms: int | None = None
        for line in lines:
            record = orjson.loads(line)
            body = record["body"].encode()
            headers = dict(record["headers"])
            if hmac_key is not None:
                headers["X-Webhook-Hmac"] = sign(body, hmac_key)
            envelope = orjson.loads(body)
            first_ms = envelope["timestamp"] if first_ms is None else first_ms
            event, payload = envelope["event"], envelope["payload"]
            at_s = (envelope["timestamp"] - first_ms) / 1000
            yield Delivery(body, headers, envelope["session"], event, message_id_of(event, payload), at_s)
