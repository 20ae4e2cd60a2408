"""Decides what page of a history to ask for next, and when all of it was seen. Pure: knows no HTTP and no database.

WAHA's pages lie in three ways: a page is cut before hidden rows are left out of it, so a short or empty one does not
mean the end; rows of one second come in any order, so an offset may skip some of them; and new messages move the set. Hence no
offset at all: each page begins with the second in which the one before ended (what lies in that second comes twice and is known
by its id), under an upper bound that is fixed. A second that does not fit on a page is asked for with larger ones. A page with
nothing newer is the end when a much larger one has nothing newer either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.waha.answers import Row

MIN_ROWS = 10
_PROBE_PAGES, _PROBE_ROWS = (
    10,
    1000,
)  # hidden rows in a row that are passed over: so many pages, and no fewer than these
_CROWDED_FACTOR = 4
_LARGEST_ROWS = 100_000  # more messages than that within one second do not exist
_SLOW_S = 5.0  # a page that took longer is asked for in halves
_QUICK_S = 1.0


@dataclass(frozen=True, slots=True)
class Page:
    """What to ask for: rows from `since_s` to `until_s`, both inclusive, oldest first."""

    since_s: int
    until_s: int
    limit: int


@dataclass(slots=True)
class Walk:
    """One walk over a window. `page_rows` is the usual size of a page, which `largest_rows` bounds."""

    since_s: int  # moves: everything before it was seen
    until_s: int
    page_rows: int
    largest_rows: int
    done: bool = False
    _asked: int = 0  # rows of the last page that was asked for
    _probing: bool = False
    _crowded_rows: int = 0  # size of a page that holds the second in which the walk stands
    _here: set[str] = field(default_factory=set)  # ids seen in the second `since_s`

    def next_page(self) -> Page:
        """The page to ask for now."""
        rows = self._probe_rows if self._probing else self.page_rows
        self._asked = min(max(rows, self._crowded_rows), _LARGEST_ROWS)
        return Page(self.since_s, self.until_s, self._asked)

    def take(self, rows: Sequence[Row], took_s: float) -> list[Row]:
        """The answer to the page that was asked for; returns the rows that were not seen before."""
        fresh = [row for row in rows if not row.id or row.id not in self._here]
        newest = max((row.at_s for row in rows if row.at_s is not None), default=self.since_s)
        if newest > self.since_s:
            self._move(rows, min(newest, self.until_s))
        else:
            self._stay(rows, any_fresh=bool(fresh))
        self._adapt(len(rows), took_s)
        return fresh

    def too_slow(self) -> bool:
        """The page never came. True when it can be asked for in smaller ones."""
        was, self.page_rows = self.page_rows, max(MIN_ROWS, self.page_rows // 2)
        self._probing = False
        return self.page_rows < was and self._asked > MIN_ROWS

    def _move(self, rows: Sequence[Row], newest: int) -> None:
        self.since_s = newest
        self._here = {row.id for row in rows if row.at_s == newest}
        self._crowded_rows = 0
        self._probing = len(rows) < self._asked // 2

    def _stay(self, rows: Sequence[Row], *, any_fresh: bool) -> None:
        """Nothing newer: this second is larger than the page, or it is the last one."""
        self._here |= {row.id for row in rows}
        more = any_fresh or len(rows) >= self._asked
        if more and self._asked < _LARGEST_ROWS:
            self._crowded_rows = self._asked * _CROWDED_FACTOR
        elif self._asked >= self._probe_rows:
            self.done = True
        else:
            self._probing = True

    @property
    def _probe_rows(self) -> int:
        return max(self.page_rows * _PROBE_PAGES, _PROBE_ROWS)

    def _adapt(self, rows: int, took_s: float) -> None:
        if took_s > _SLOW_S:
            self.page_rows = max(MIN_ROWS, self.page_rows // 2)
        elif took_s < _QUICK_S and rows >= self.page_rows // 2:
            self.page_rows = min(self.largest_rows, self.page_rows * 2)
