"""Messages as WAHA's REST pages them, with its traps: a page is cut before hidden rows are left out, so it may be short or
empty while more follow; rows of one second come in another order at every request; times are seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from producers.simulator.facts import ACK_NAMES
from producers.simulator.rest.world import Rows, Stored

DEFAULT_LIMIT = 10


@dataclass(frozen=True, slots=True)
class Query:
    """The parameters of /messages. Raises ValueError for one that is not what it should be."""

    limit: int = DEFAULT_LIMIT
    offset: int = 0
    since_s: float = float("-inf")
    until_s: float = float("inf")
    descending: bool = True
    from_me: bool | None = None
    ack: str | None = None
    download_media: bool = True
    merge: bool = True

    @classmethod
    def read(cls, get: Callable[[str], str | None]) -> Query:
        """From the query string."""
        from_me = get("filter.fromMe")
        return cls(
            int(get("limit") or DEFAULT_LIMIT),
            int(get("offset") or 0),
            float(get("filter.timestamp.gte") or "-inf"),
            float(get("filter.timestamp.lte") or "inf"),
            (get("sortOrder") or "desc") == "desc",
            None if from_me is None else from_me == "true",
            get("filter.ack"),
            (get("downloadMedia") or "true") == "true",
            (get("merge") or "true") == "true",
        )


def page(rows: Rows, query: Query, rng: Random) -> list[Stored]:
    """The rows of one page, hidden ones left out after it was cut."""
    first, end = rows.within(query.since_s, query.until_s)
    if query.from_me is not None or query.ack is not None:
        fitting = [row for row in rows.rows[first:end] if _fits(row, query)]
        rows = Rows(fitting, [row.at_s for row in fitting])
        first, end = 0, len(fitting)
    if query.descending:
        start, stop = max(first, end - query.offset - query.limit), max(first, end - query.offset)
    else:
        start, stop = min(end, first + query.offset), min(end, first + query.offset + query.limit)
    chosen = _disordered(rows, (first, end), (start, stop), rng)
    if query.descending:
        chosen.reverse()
    return [row for row in chosen if not row.hidden]


def _fits(row: Stored, query: Query) -> bool:
    message = row.message
    return query.from_me in (None, message.from_me) and query.ack in (None, ACK_NAMES[message.ack])


def _disordered(rows: Rows, window: tuple[int, int], cut: tuple[int, int], rng: Random) -> list[Stored]:
    """The rows of `cut`, those of one second in any order; a second that lies across the cut gives any of its rows."""
    start, stop = cut
    if start >= stop:
        return []
    seconds = rows.seconds
    low, high = start, stop
    while low > window[0] and seconds[low - 1] == seconds[start]:
        low -= 1
    while high < window[1] and seconds[high] == seconds[stop - 1]:
        high += 1
    mixed = sorted(rows.rows[low:high], key=lambda row: (row.at_s, rng.random()))
    return mixed[start - low : stop - low]
