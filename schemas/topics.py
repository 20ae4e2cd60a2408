"""The one table of topics: name, what goes there, partitions, retention, sizes. `topics apply` makes them so.

The key of every record is session + chat as the payload has them: what concerns one chat lands in one partition. No
rule depends on order between records, so partition counts may grow later.
"""

from __future__ import annotations

from dataclasses import dataclass

DAY_MS = 24 * 3600 * 1000
# A body is at most 16 MiB (IngressSettings); the record carries key, headers and framing beside it.
MAX_RECORD_BYTES = 17 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it should be. `live` topics take WAPIPE_KAFKA_PARTITIONS; work and dead-letter topics keep their own."""

    name: str
    summary: str
    partitions: int = 12
    retention_ms: int = 7 * DAY_MS
    live: bool = True

    def config(self) -> dict[str, str]:
        """Topic configuration as the broker takes it."""
        return {
            "retention.ms": str(self.retention_ms),
            "max.message.bytes": str(MAX_RECORD_BYTES),
            "cleanup.policy": "delete",
            "compression.type": "producer",
        }


MESSAGE = Topic("waha.message", "messages, reactions, edits, revokes, votes: what a chat says")
RECEIPT = Topic("waha.receipt", "delivery and read receipts")
SESSION = Topic("waha.session", "state of WhatsApp sessions", partitions=3)
CHAT = Topic("waha.chat", "groups, labels, calls, archive: what a chat is", partitions=6)
PRESENCE = Topic("waha.presence", "online, typing", partitions=6, retention_ms=DAY_MS)
OTHER = Topic("waha.other", "events of names that wapipe does not know yet", partitions=3, retention_ms=30 * DAY_MS)
PARKED = Topic("waha.parked", "signed bodies that cannot be read", partitions=1, retention_ms=30 * DAY_MS, live=False)
BACKFILL = Topic("waha.backfill", "history fetched from WAHA, wrapped as events; its own lane", retention_ms=3 * DAY_MS)
SYNC = Topic("wapipe.sync", "requests to fetch history from WAHA", partitions=3, live=False)

LIVE_TOPICS = (MESSAGE, RECEIPT, SESSION, CHAT, PRESENCE, OTHER)

# Event name -> topic. Every name of WAHA 2026.7.1 and the one announced after it; all else goes to waha.other.
ROUTES: dict[str, Topic] = {
    **dict.fromkeys(
        ("message", "message.any", "message.waiting", "message.edited", "message.revoked", "message.reaction",
         "poll.vote", "poll.vote.failed", "event.response", "event.response.failed"), MESSAGE),
    **dict.fromkeys(("message.ack", "message.ack.group"), RECEIPT),
    **dict.fromkeys(("session.status", "state.change", "engine.event"), SESSION),
    **dict.fromkeys(
        ("group.join", "group.leave", "group.v2.join", "group.v2.leave", "group.v2.update", "group.v2.participants",
         "group.v2.participants.join-request", "label.upsert", "label.deleted", "label.chat.added",
         "label.chat.deleted", "chat.archive", "call.received", "call.accepted", "call.rejected"), CHAT),
    "presence.update": PRESENCE,
}  # fmt: skip


def dead_letter_topic(consumer: str) -> Topic:
    """Where `consumer` puts what it can never store."""
    return Topic(
        f"wapipe.dead.{consumer}", f"dead letters of {consumer}", partitions=1, retention_ms=90 * DAY_MS, live=False
    )


REDRIVE_PREFIX = "wapipe.redrive."


def redrive_topic(consumer: str) -> Topic:
    """Where dead letters of `consumer` go to be tried again: nobody else reads it. Kept as long as the letters are."""
    return Topic(
        f"{REDRIVE_PREFIX}{consumer}", f"dead letters of {consumer}, tried again", partitions=1,
        retention_ms=90 * DAY_MS, live=False,
    )  # fmt: skip


def all_topics(consumers: list[str]) -> list[Topic]:
    """Every topic that must exist for these consumers."""
    own = [topic for c in consumers for topic in (dead_letter_topic(c), redrive_topic(c))]
    return [*LIVE_TOPICS, PARKED, BACKFILL, SYNC, *own]


# Record headers (ASCII). A consumer that does not want an event skips it by header, without parsing.
HEADER_EVENT = "event"
HEADER_EVENT_ID = "event-id"
HEADER_SESSION = "session"
HEADER_ENGINE = "engine"
HEADER_RECEIVED_AT_MS = "received-at-ms"
HEADER_SOURCE = "source"
HEADER_REASON = "reason"  # of a parked record
