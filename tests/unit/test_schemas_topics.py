"""The table of topics: every event has its place, and what the ingress takes fits into a record."""

from __future__ import annotations

import json
import re

import pytest

from consumers import PROCESSES
from pipeline.settings import IngressSettings
from schemas.envelope import read_envelope
from schemas.topics import (
    BACKFILL,
    CHAT,
    DAY_MS,
    LIVE_TOPICS,
    MAX_RECORD_BYTES,
    MESSAGE,
    OTHER,
    PARKED,
    PRESENCE,
    RECEIPT,
    ROUTES,
    SESSION,
    Topic,
    all_topics,
    dead_letter_topic,
)

# WAHA's enum of 2026.7.1 (30 names) and the one announced after it.
WAHA_EVENTS = [
    "session.status", "message", "message.reaction", "message.any", "message.ack", "message.ack.group",
    "message.waiting", "message.revoked", "message.edited", "state.change", "group.join", "group.leave",
    "group.v2.join", "group.v2.leave", "group.v2.update", "group.v2.participants", "presence.update", "poll.vote",
    "poll.vote.failed", "chat.archive", "call.received", "call.accepted", "call.rejected", "label.upsert",
    "label.deleted", "label.chat.added", "label.chat.deleted", "event.response", "event.response.failed",
    "engine.event", "group.v2.participants.join-request",
]  # fmt: skip

ALL = all_topics([p.name for p in PROCESSES])


def test_every_event_of_waha_is_routed_and_none_else() -> None:
    assert len(WAHA_EVENTS) == 31
    assert sorted(ROUTES) == sorted(WAHA_EVENTS)


@pytest.mark.parametrize(
    ("event", "topic"),
    [("message", MESSAGE), ("message.any", MESSAGE), ("poll.vote", MESSAGE), ("message.ack.group", RECEIPT),
     ("session.status", SESSION), ("engine.event", SESSION), ("group.v2.update", CHAT), ("call.rejected", CHAT),
     ("presence.update", PRESENCE), ("message.pinned", OTHER), ("MESSAGE", OTHER), ("nonsense", OTHER)],
)  # fmt: skip
def test_topic_of_an_event(event: str, topic: Topic) -> None:
    assert read_envelope(json.dumps({"event": event, "session": "s"}).encode()).topic is topic


def test_routes_lead_to_live_topics() -> None:
    assert {t.name for t in ROUTES.values()} | {OTHER.name} == {t.name for t in LIVE_TOPICS}


def test_names_are_unique_and_legal() -> None:
    names = [t.name for t in ALL]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9._-]{1,180}", n) for n in names)  # Kafka: 249, the prefix may have 60


def test_every_consumer_has_its_dead_letters() -> None:
    assert {f"wapipe.dead.{p.name}" for p in PROCESSES} <= {t.name for t in ALL}


def test_the_largest_body_fits_into_a_record() -> None:
    """Key, headers and framing stand beside the body; the longest key is 512 bytes, the headers some hundred each."""
    field = IngressSettings.model_fields["max_body_bytes"]
    largest = max(m.le for m in field.metadata if hasattr(m, "le"))
    assert field.default == largest
    assert MAX_RECORD_BYTES - largest >= 64 * 1024


@pytest.mark.parametrize("topic", ALL, ids=lambda t: t.name)
def test_configuration(topic: Topic) -> None:
    config = topic.config()
    assert config["max.message.bytes"] == str(MAX_RECORD_BYTES)
    assert config["retention.ms"] == str(topic.retention_ms)
    assert topic.partitions >= 1
    assert topic.retention_ms >= DAY_MS  # longer than a bad night


@pytest.mark.parametrize("topic", [PARKED, dead_letter_topic("messages")], ids=lambda t: t.name)
def test_what_a_person_must_look_at_is_kept_longer_than_what_was_stored(topic: Topic) -> None:
    assert topic.retention_ms > MESSAGE.retention_ms
    assert not topic.live


def test_backfill_has_a_lane_of_its_own() -> None:
    assert BACKFILL not in ROUTES.values()
    assert BACKFILL in ALL
