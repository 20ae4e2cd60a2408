"""Traffic: the same for a seed, right in its references and shares, in order unless asked."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any

import orjson
import pytest

from producers.simulator import ENGINES, Delivery, Engine, Profile, traffic
from schemas.topics import ROUTES

QUIET: dict[str, Any] = {"duplicates": 0.0, "out_of_order": 0.0}


def bodies(profile: Profile) -> Iterator[tuple[Delivery, dict[str, Any]]]:
    for delivery in traffic(profile):
        yield delivery, orjson.loads(delivery.body)


def raw(serialized: str) -> str:
    return serialized.split("_")[2]


def test_same_seed_same_deliveries() -> None:
    profile = Profile(count=800, seed=11)
    assert list(traffic(profile)) == list(traffic(profile))


def test_other_seed_or_start_other_deliveries() -> None:
    first = [d.body for d in traffic(Profile(count=50, seed=1))]
    assert first != [d.body for d in traffic(Profile(count=50, seed=2))]
    assert first != [d.body for d in traffic(Profile(count=50, seed=1), start_ms=1_700_000_000_000)]


def test_same_seed_at_another_start_has_the_same_message_ids() -> None:
    def ids(start_ms: int) -> list[str | None]:
        return [d.message_id for d in traffic(Profile(count=300), start_ms=start_ms)]

    assert ids(1_700_000_000_000) == ids(1_800_000_000_000)


def test_count_and_duration() -> None:
    assert len(list(traffic(Profile(count=123)))) == 123
    made = list(traffic(Profile(rate_per_s=50, duration_s=2)))
    assert len(made) == 100
    assert made[0].at_s == 0
    assert made[-1].at_s == pytest.approx(99 / 50)
    assert Profile(count=10, rate_per_s=50, duration_s=2).deliveries == 10


def test_endless_without_count_and_duration() -> None:
    assert len(list(islice(traffic(Profile()), 3000))) == 3000


def test_bodies_are_what_json_stringify_writes() -> None:
    for delivery, body in bodies(Profile(count=2000)):
        assert orjson.dumps(body) == delivery.body
        assert b"\\u" not in delivery.body


def test_headers_match_the_body() -> None:
    for delivery, body in bodies(Profile(count=500)):
        assert delivery.headers["X-Webhook-Timestamp"] == str(body["timestamp"])
        assert delivery.headers["User-Agent"] == "WAHA/" + body["environment"]["version"]
        assert "X-Webhook-Hmac" not in delivery.headers
        assert (delivery.session, delivery.event) == (body["session"], body["event"])
        assert re.fullmatch(r"evt_[0-9a-hjkmnp-tv-z]{26}", body["id"])


def test_request_ids_are_unique() -> None:
    made = [d.headers["X-Webhook-Request-Id"] for d in traffic(Profile(count=2000, rate_per_s=5000))]
    assert len(set(made)) == len(made)


def test_message_id_stands_for_message_events_only() -> None:
    for delivery, body in bodies(Profile(count=1000)):
        expected = body["payload"]["id"] if delivery.event in ("message", "message.any") else None
        assert delivery.message_id == expected


def test_sessions_take_the_engines_in_turn() -> None:
    found = {(d.session, body["engine"]) for d, body in bodies(Profile(count=500, sessions=3, engines=("GOWS", "WPP")))}
    assert found == {("demo-01", "GOWS"), ("demo-02", "WPP"), ("demo-03", "GOWS")}


@pytest.mark.parametrize("engine", ENGINES)
def test_twins(engine: Engine) -> None:
    """NOWEB and GOWS give message and message.any the same envelope id and time, the others do not."""
    seen: dict[str, dict[str, tuple[str, int]]] = {}
    for delivery, body in bodies(Profile(count=800, engines=(engine,), sessions=1, **QUIET)):
        if delivery.message_id:
            seen.setdefault(delivery.message_id, {})[delivery.event] = (body["id"], body["timestamp"])
    incoming = [v for k, v in seen.items() if k.startswith("false_")]
    own = [v for k, v in seen.items() if k.startswith("true_")]
    assert incoming
    assert own
    assert all(set(v) == {"message", "message.any"} for v in incoming[:-1])  # the last may be cut
    assert all(set(v) == {"message.any"} for v in own)
    same = {v["message"] == v["message.any"] for v in incoming[:-1]}
    assert same == {engine in ("NOWEB", "GOWS")}


def test_without_twins_every_message_comes_once() -> None:
    made = Counter(d.message_id for d in traffic(Profile(count=1000, twins=False, **QUIET)) if d.message_id)
    assert set(made.values()) == {1}
    assert {d.event for d in traffic(Profile(count=1000, twins=False))} & {"message"} == set()


def _targets(body: dict[str, Any]) -> str | None:
    """The raw id that an act refers to."""
    payload = body["payload"]
    match body["event"]:
        case "message.ack" | "message.ack.group":
            return raw(payload["id"])
        case "message.reaction":
            return raw(payload["reaction"]["messageId"])
        case "message.edited":
            return str(payload["editedMessageId"])
        case "message.revoked":
            return str(payload["revokedMessageId"])
        case "poll.vote" | "poll.vote.failed":
            return raw(payload["poll"]["id"])
        case "event.response" | "event.response.failed":
            return raw(payload["eventCreationKey"]["id"])
    return None


def test_acts_refer_to_messages_sent_before() -> None:
    sent: set[tuple[str, str]] = set()
    acts = Counter[str]()
    profile = Profile(count=8000, edits=0.1, revokes=0.05, reactions=0.1, others=0.2, **QUIET)
    for delivery, body in bodies(profile):
        if delivery.message_id:
            sent.add((delivery.session, raw(delivery.message_id)))
        elif target := _targets(body):
            acts[delivery.event] += 1
            assert (delivery.session, target) in sent, body
    assert set(acts) >= {
        "message.ack", "message.ack.group", "message.reaction", "message.edited", "message.revoked",
        "poll.vote", "event.response",
    }  # fmt: skip


def test_acks_of_a_direct_chat_go_up() -> None:
    levels: dict[str, list[int]] = {}
    for delivery, body in bodies(Profile(count=5000, **QUIET)):
        if delivery.event == "message.ack":
            levels.setdefault(body["payload"]["id"], []).append(body["payload"]["ack"])
    assert all(sorted(set(v)) == v for v in levels.values())
    assert any(len(v) > 1 for v in levels.values())


def test_duplicates_come_as_the_same_bytes_and_under_new_envelope_ids() -> None:
    by_message: dict[tuple[str | None, str], list[bytes]] = {}
    for delivery in traffic(Profile(count=2000, duplicates=0.5, out_of_order=0)):
        if delivery.message_id:
            by_message.setdefault((delivery.message_id, delivery.event), []).append(delivery.body)
    repeated = [v for v in by_message.values() if len(v) == 2]
    assert len(repeated) / len(by_message) == pytest.approx(0.5, abs=0.08)
    same = sum(a == b for a, b in repeated)
    assert 0.35 < same / len(repeated) < 0.65
    renamed = [(orjson.loads(a), orjson.loads(b)) for a, b in repeated if a != b]
    assert all(a["id"] != b["id"] and a["payload"] == b["payload"] for a, b in renamed)


def test_out_of_order_loses_nothing() -> None:
    """A late delivery is the same delivery: the multiset of bodies is that of the run in order."""
    late = [d.headers["X-Webhook-Timestamp"] for d in traffic(Profile(count=2000, out_of_order=0.3))]
    assert len(late) == 2000
    assert late != sorted(late)
    ordered = [d.headers["X-Webhook-Timestamp"] for d in traffic(Profile(count=2000, **QUIET))]
    assert ordered == sorted(ordered)


def test_shares() -> None:
    messages_and_acks = Profile(count=6000, media=0.5, acks=0.4, edits=0, revokes=0, reactions=0, others=0, **QUIET)
    made = list(bodies(messages_and_acks))
    messages = {d.message_id: b["payload"]["hasMedia"] for d, b in made if d.message_id}
    assert sum(messages.values()) / len(messages) == pytest.approx(0.5, abs=0.05)
    acks = sum(d.event.startswith("message.ack") for d, _ in made)
    assert acks / (acks + len(messages)) == pytest.approx(0.4, abs=0.08)
    assert {d.event for d, _ in made} == {
        "session.status", "message", "message.any", "message.ack", "message.ack.group",
    }  # fmt: skip


def test_calls_ring_before_they_are_taken_or_refused() -> None:
    states: dict[str, list[str]] = {}
    for delivery, body in bodies(Profile(count=6000, others=0.6, **QUIET)):
        if delivery.event.startswith("call."):
            states.setdefault(body["payload"]["id"], []).append(delivery.event)
    assert {v[0] for v in states.values()} == {"call.received"}
    assert {tuple(v[1:]) for v in states.values()} == {(), ("call.accepted",), ("call.rejected",)}


def test_only_what_an_engine_has() -> None:
    """By engine; together all names that WAHA has."""
    found: dict[str, set[str]] = {}
    for delivery, body in bodies(Profile(count=40_000, others=0.6, sessions=4)):
        found.setdefault(body["engine"], set()).add(delivery.event)
    labels = {"label.upsert", "label.deleted"}
    chat_labels = {"label.chat.added", "label.chat.deleted"}
    groups = {"group.v2.join", "group.v2.leave", "group.v2.update", "group.v2.participants"}
    calls = {"call.accepted", "call.rejected"}
    everywhere = groups | {
        "session.status", "message", "message.any", "message.ack", "message.ack.group", "message.reaction",
        "message.edited", "message.revoked", "presence.update", "call.received", "poll.vote", "engine.event",
    }  # fmt: skip
    socket = everywhere | labels | chat_labels | calls | {"poll.vote.failed", "state.change"}
    assert found["NOWEB"] == socket | {"group.join", "group.v2.participants.join-request"}
    assert found["GOWS"] == socket | {"event.response", "event.response.failed"}
    assert found["WPP"] == everywhere | chat_labels | {"state.change"}
    assert found["WEBJS"] == everywhere | {
        "chat.archive", "message.waiting", "group.join", "group.leave", "call.rejected",
    }  # fmt: skip
    assert set().union(*found.values()) == set(ROUTES)


def test_from_to_and_participant_by_engine() -> None:
    """waha.md §1.6, line by line."""
    kinds = Counter[tuple[str, bool, bool]]()
    for delivery, body in bodies(Profile(count=8000)):
        if not delivery.message_id:
            continue
        p, me, absent = body["payload"], body["me"]["id"], "absent"
        own, chat, _, *tail = delivery.message_id.split("_")
        from_me, sender = own == "true", tail[0] if tail else None
        ends = (p["from"], p.get("to", absent), p.get("participant", absent))
        if body["engine"] == "NOWEB":
            assert ends == ((chat, chat, sender) if sender else (chat, absent, absent))
        elif body["engine"] == "GOWS":
            assert ends == (chat, sender, sender)
        else:
            missing = absent if body["engine"] == "WEBJS" else None
            assert ends == (*((me, chat) if from_me else (chat, me)), sender or missing)
        kinds[body["engine"], from_me, sender is not None] += 1
    assert len(kinds) == 16


def test_lid_chats_carry_the_number_beside() -> None:
    seen = Counter[str]()
    for delivery, body in bodies(Profile(count=3000, lid=1.0, groups=0.5, engines=("NOWEB", "GOWS"))):
        if not delivery.message_id or delivery.message_id.startswith("true"):
            continue
        data = body["payload"]["_data"]
        if body["engine"] == "GOWS":
            assert data["Info"]["SenderAlt"].endswith("@s.whatsapp.net")
        else:
            key = data["key"]
            assert key.get("remoteJidAlt", key.get("participantAlt", "")).endswith("@s.whatsapp.net")
            assert key["addressingMode"] == "lid"
        seen[body["engine"]] += 1
    assert len(seen) == 2


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"media": 1.2}, "media"),
        ({"acks": -0.1}, "acks"),
        ({"acks": 0.7, "edits": 0.5}, "exceed 1"),
        ({"engines": ("NOPE",)}, "NOPE"),
        ({"engines": ()}, "none"),
        ({"rate_per_s": 0.0}, "rate_per_s"),
        ({"sessions": 0}, "sessions"),
        ({"count": 0}, "count"),
        ({"media": float("nan")}, "media"),
    ],
)
def test_a_bad_profile_says_which_field(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Profile(**wrong)
