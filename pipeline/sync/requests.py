"""Puts requests on wapipe.sync: the scheduler, the gap finder and `wapipe sync start` all ask in this way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from pipeline.broker import Headers, Publisher
from schemas.envelope import to_header
from schemas.sync import EVENT, SyncRequest, to_value
from schemas.topics import HEADER_EVENT, HEADER_EVENT_ID, HEADER_RECEIVED_AT_MS, HEADER_SESSION, SYNC

_DEADLINE_S = 30.0


async def publish_requests(publisher: Publisher, requests: Sequence[SyncRequest]) -> None:
    """Returns when the broker has all of them. Raises TransientError."""
    await asyncio.gather(*(_publish(publisher, request) for request in requests))


async def _publish(publisher: Publisher, request: SyncRequest) -> None:
    headers: Headers = [
        (HEADER_EVENT, EVENT.encode()),
        (HEADER_EVENT_ID, request.request_id.encode()),
        (HEADER_SESSION, to_header(request.session)),
        (HEADER_RECEIVED_AT_MS, b"%d" % (time.time_ns() // 1_000_000)),
    ]
    key = f"{request.session}|{request.chat}".encode("utf-8", "replace")[:512]
    await publisher.publish(SYNC.name, key, to_value(request), headers, deadline_s=_DEADLINE_S)
