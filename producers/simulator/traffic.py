"""Made-up traffic of several sessions as a stream of deliveries: the same for the same profile and start.

Around what happens in the sessions it puts envelopes, twins, duplicates and disorder. Lazy: an endless
profile is fine, memory does not grow.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count as count_from
from itertools import islice
from random import Random

from producers.simulator.delivery import Delivery
from producers.simulator.envelopes import RequestIds, envelope, envelope_id, headers_of, to_json
from producers.simulator.facts import ENGINES, Account, Engine
from producers.simulator.session import Happening, Session
from producers.simulator.world import inbox

START_MS = 1_784_973_600_000  # 2026-07-25T10:00:00Z
_SHARES = (
    "media", "acks", "edits", "reactions", "revokes", "others", "duplicates", "out_of_order", "groups", "lid",
)  # fmt: skip
_KINDS = ("acks", "edits", "reactions", "revokes", "others")  # the rest of the events are messages
_MAX_LAG = 40  # deliveries that overtake one that is out of order, at most


@dataclass(frozen=True, slots=True)
class Profile:
    """What traffic is made of. Shares are 0..1. Raises ValueError that names the bad field.

    acks, edits, reactions, revokes and others are shares of the events, the rest are messages; media is of
    the messages; duplicates of the messages come once more (half the same bytes, half under a new envelope
    id); out_of_order of the deliveries come late; groups and lid are of the chats.
    """

    rate_per_s: float = 100.0  # of the virtual clock; the player may play at another
    duration_s: float | None = None
    count: int | None = None  # deliveries; without count and duration it never ends
    engines: tuple[Engine, ...] = ENGINES  # sessions take them in turn
    sessions: int = 4
    session_prefix: str = "demo"
    chats: int = 20  # per session
    media: float = 0.15
    acks: float = 0.25
    edits: float = 0.02
    reactions: float = 0.06
    revokes: float = 0.01
    others: float = 0.05
    duplicates: float = 0.02
    out_of_order: float = 0.03
    groups: float = 0.3
    lid: float = 0.3
    twins: bool = True  # message and message.any are both subscribed; else message.any only
    media_base_url: str = "http://localhost:3000"
    seed: int = 1

    def __post_init__(self) -> None:
        for name in _SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share, 0 to 1, not {getattr(self, name)}")
        if sum(getattr(self, name) for name in _KINDS) > 1:
            raise ValueError(f"{', '.join(_KINDS)} are shares of all events; together they exceed 1")
        for name in ("rate_per_s", "duration_s", "count", "sessions", "chats"):
            if (value := getattr(self, name)) is not None and not value > 0:
                raise ValueError(f"{name} must be above 0, not {value}")
        unknown = sorted(set(self.engines) - set(ENGINES))
        if unknown or not self.engines:
            raise ValueError(f"engines are {', '.join(ENGINES)}, not {', '.join(unknown) or 'none'}")

    @property
    def deliveries(self) -> int | None:
        """How many deliveries it makes; None without end."""
        lasting = None if self.duration_s is None else math.ceil(self.duration_s * self.rate_per_s)
        known = [n for n in (self.count, lasting) if n is not None]
        return min(known) if known else None


@dataclass(frozen=True, slots=True)
class _Draft:
    """A body with what its headers need; not yet a delivery, since that may come late or twice."""

    account: Account
    happening: Happening
    body: bytes
    at_ms: int  # the envelope's timestamp
    id_: str


def traffic(profile: Profile, *, start_ms: int = START_MS) -> Iterator[Delivery]:
    """Deliveries in the order in which they are sent. `start_ms` is the virtual clock's first reading."""
    rng = Random(profile.seed)  # noqa: S311 - reproducible on purpose
    request_ids = RequestIds(rng)
    drafts = islice(_drafts(profile, rng, start_ms), profile.deliveries)
    for n, draft in enumerate(_disordered(drafts, rng, profile.out_of_order)):
        at_s = n / profile.rate_per_s
        request_id = request_ids.next(start_ms + int(at_s * 1000))
        yield Delivery(
            draft.body,
            headers_of(draft.account.version, request_id, draft.at_ms),
            draft.account.session,
            draft.happening.event,
            draft.happening.message_id,
            at_s,
        )


def _sessions(profile: Profile, rng: Random) -> list[Session]:
    made = []
    for n in range(profile.sessions):
        box = inbox(
            rng,
            profile.engines[n % len(profile.engines)],
            f"{profile.session_prefix}-{n + 1:02d}",
            chats=profile.chats,
            groups=profile.groups,
            lid=profile.lid,
            base_url=profile.media_base_url,
        )
        made.append(Session(box, rng, media=profile.media, twins=profile.twins))
    return made


def _drafts(profile: Profile, rng: Random, start_ms: int) -> Iterator[_Draft]:
    """Every event with its twins and duplicates, in order of time. Never ends."""
    sessions = _sessions(profile, rng)
    emitted = 0
    for step in count_from():
        now_ms = start_ms + int(emitted / profile.rate_per_s * 1000)
        if step < len(sessions):
            session, happenings = sessions[step], sessions[step].connect(now_ms)
        else:
            session = rng.choice(sessions)
            happenings = _next_event(session, rng, profile, now_ms)
        for draft in _enveloped(session.account, happenings, rng, now_ms):
            yield draft
            emitted += 1
            if draft.happening.message_id and rng.random() < profile.duplicates:
                yield _again(draft, rng)
                emitted += 1


def _next_event(session: Session, rng: Random, profile: Profile, now_ms: int) -> list[Happening]:
    """By the profile's shares; a message when there is nothing to act on yet."""
    made: list[Happening] = []
    dice = rng.random()
    for name, act in (
        ("acks", session.ack),
        ("reactions", session.reaction),
        ("others", session.other),
        ("edits", session.edit),
        ("revokes", session.revoke),
    ):
        share: float = getattr(profile, name)
        if dice < share:
            made = act(now_ms)
            break
        dice -= share
    return made or session.message(now_ms)


def _enveloped(account: Account, happenings: list[Happening], rng: Random, now_ms: int) -> Iterator[_Draft]:
    id_, at_ms = "", now_ms
    for n, happening in enumerate(happenings):
        if not happening.twin:
            at_ms = now_ms + n
            id_ = envelope_id(rng, at_ms)
        yield _draft(account, happening, id_, at_ms)


def _draft(account: Account, happening: Happening, id_: str, at_ms: int) -> _Draft:
    body = envelope(account, happening.event, happening.payload, id_=id_, at_ms=at_ms, paired=happening.paired)
    return _Draft(account, happening, to_json(body), at_ms, id_)


def _again(draft: _Draft, rng: Random) -> _Draft:
    """The same bytes to a second webhook, or the message emitted once more (NOWEB's append and notify)."""
    if rng.random() < 0.5:
        return draft
    at_ms = draft.at_ms + rng.randrange(1, 900)
    return _draft(draft.account, draft.happening, envelope_id(rng, at_ms), at_ms)


def _disordered(drafts: Iterator[_Draft], rng: Random, share: float) -> Iterator[_Draft]:
    """Holds a share of the drafts back until up to 40 others have passed; loses none."""
    held: list[tuple[int, int, _Draft]] = []
    for n, draft in enumerate(drafts):
        while held and held[0][0] <= n:
            yield heapq.heappop(held)[2]
        if share and rng.random() < share:
            heapq.heappush(held, (n + rng.randrange(1, _MAX_LAG), n, draft))
        else:
            yield draft
    while held:
        yield heapq.heappop(held)[2]
