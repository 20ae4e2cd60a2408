"""Records that can never be stored, in any share, and records that kill whoever decodes them."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests.faults.compare import connected
from tests.faults.deadly import EXITS, KILLS
from tests.faults.outcome import Outcome
from tests.faults.records import Headers, Raw, dead_numbers, good, headers_of, put, stored_numbers
from tests.faults.rig import Rig, Site

PERCENT = (1, 50, 100)
_EACH = 1500  # records a share

# Of a bad record: what is wrong with it -> the reason of its dead letter.
_BAD: dict[str, Callable[[int], Raw]] = {
    "not_json": lambda n: Raw(n, b"{", headers_of("message")),
    "not_an_object": lambda n: Raw(n, b"[1]", headers_of("message.any")),
    "payload_missing": lambda n: Raw(n, b'{"event":"message","session":"straight"}', headers_of("message")),
    "message_id_missing": lambda n: Raw(
        n, b'{"event":"message","session":"straight","payload":{}}', headers_of("message")
    ),
}
_NULL_VALUE = "not_json"  # a record without a value is no event either


def _with(extra: Headers) -> Callable[[int], Raw]:
    def make(number: int) -> Raw:
        record = good(number)
        return replace(record, headers=[*record.headers, *extra])

    return make


# Headers that no ingress of ours writes, on good records: they are stored like all others.
_ODD: list[Callable[[int], Raw]] = [
    good,
    _with([("note", b"\xff\xfe")]),
    _with([("note", None)]),
    _with([("received-at-ms", b"yesterday")]),
    _with([("", b"")]),
    lambda n: replace(good(n), headers=[("event", b"message"), ("source", None), ("received-at-ms", None)]),
]


async def poison(rig: Rig, logs: Path, *, each: int = _EACH) -> Outcome:
    """A share of bad ones after the other on one site; one that is nearly all bad is slowed down, and said."""
    outcome = Outcome(f"{', '.join(f'{p} %' for p in PERCENT)} bad records, bad headers, null headers, null values")
    rng = random.Random(4)
    # The flood guard must have something to do with a few hundred records a partition, and not for long.
    guard = {"WAPIPE_FLOOD_RECORDS": "80", "WAPIPE_FLOOD_PAUSE_S": "1", "WAPIPE_BATCH_ROWS": "200"}
    async with rig.site(logs, "messages", **guard) as site:
        good_ones, bad_ones, nameless = set[int](), dict[int, str](), 0
        for percent in PERCENT:
            records: list[Raw] = []
            for number in range(outcome.received, outcome.received + each):
                if rng.random() * 100 < percent:
                    reason, record = _bad(number, rng)
                    bad_ones[number] = reason
                else:
                    record = rng.choice(_ODD)(number)
                    good_ones.add(number)
                records.append(record)
            outcome.received += await put(site, records)
            await site.settled(outcome.received + nameless)
            # An event whose name cannot be read is of a name that nobody has a table for: kept whole.
            nameless += await put(site, [Raw(0, good(0).value, [("event", value)]) for value in (None, b"\xff")])
        member = site.members["messages"]
        outcome.notes["floods"] = str(member.said("partition.flooded"))
        assert member.said("partition.flooded") > 0
        await _compare(site, outcome, good_ones, bad_ones, nameless)
        async with connected(site) as connection:
            assert await connection.fetchval("SELECT count(*) FROM whatsapp_gateway.other_events") == 2
        assert site.strange_ends() == {}
    return outcome


async def deadly(rig: Rig, logs: Path) -> Outcome:
    """Two of a few hundred records kill the process that decodes them: after some deaths they alone are set aside."""
    outcome = Outcome("records that kill the process")
    killers = {170: KILLS, 171: EXITS}
    async with rig.site(logs) as site:
        records = [good(n, text=killers.get(n, b"hello").decode()) for n in range(400)]
        outcome.received = await put(site, records)
        member = await site.add("messages", module="tests.faults.deadly")
        await site.settled(outcome.received)
        await member.ready()
        await _compare(site, outcome, set(range(400)) - killers.keys(), dict.fromkeys(killers, "kills_process"), 0)
        deaths = member.ends[-signal.SIGKILL] + member.ends[1]
        outcome.notes["deaths"] = str(deaths)
        assert deaths >= 3
        assert site.strange_ends(-signal.SIGKILL, 1) == {}
    return outcome


def _bad(number: int, rng: random.Random) -> tuple[str, Raw]:
    if rng.random() < 0.2:
        return _NULL_VALUE, Raw(number, None, headers_of("message"))
    reason = rng.choice(list(_BAD))
    return reason, _BAD[reason](number)


async def _compare(site: Site, outcome: Outcome, good_ones: set[int], bad_ones: dict[int, str], more: int) -> None:
    """Fills in what stands in the table, in the dead-letter topic and in the books."""
    books = await site.settled(outcome.received + more)
    stored, dead = await stored_numbers(site), await dead_numbers(site, "messages")
    outcome.messages, outcome.stored = len(good_ones), stored.total()
    outcome.doubled, outcome.lost = stored.total() - len(stored), len(good_ones - stored.keys())
    outcome.strange = len(stored.keys() - good_ones)
    outcome.bad, outcome.dead = len(bad_ones), len(dead.keys() & bad_ones.keys())
    outcome.dead_good = len(dead.keys() - bad_ones.keys())
    outcome.difference = books.difference
    assert dead == bad_ones  # with the right reason
