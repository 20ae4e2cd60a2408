"""What goes wrong on purpose in the simulated WAHA: rules by path, for so many requests or for a share of them.

Kinds for every path: `status` (with JSON as WAHA's own errors, or HTML as a proxy's), `delay`, `drop` (the connection ends
inside the answer), `not_json`. Kinds for files: `truncated`, `short`, `wrong_bytes`, `empty`, `huge`, `slow`, `redirect`, `gone`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from random import Random
from typing import Any, Literal, get_args

Kind = Literal[
    "status", "delay", "drop", "not_json",
    "truncated", "short", "wrong_bytes", "empty", "huge", "slow", "redirect", "gone",
]  # fmt: skip
FILE_KINDS = frozenset({"truncated", "short", "wrong_bytes", "empty", "huge", "slow", "redirect", "gone"})


@dataclass(slots=True)
class Rule:
    """One fault. Raises ValueError for a field that does not fit."""

    kind: Kind
    path: str = ""  # a regular expression, found anywhere in the path
    times: int | None = None  # then it is over; None: it stays
    share: float = 1.0  # of the requests that match
    status: int = 503
    html: bool = False
    retry_after: str | None = None
    delay_s: float = 1.0  # delay: before the answer; slow: between two parts of 64 KiB
    size_bytes: int = 10 * 1024**3  # huge
    location: str = "http://169.254.169.254/latest/meta-data/"  # redirect
    message: str = "on purpose"

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"kind is one of {', '.join(get_args(Kind))}, not {self.kind!r}")
        re.compile(self.path)


@dataclass(slots=True)
class Faults:
    """The rules in force; the first that matches is taken."""

    rules: list[Rule] = field(default_factory=list)
    _rng: Random = field(default_factory=lambda: Random(3))  # noqa: S311 - reproducible on purpose

    def add(self, kind: Kind, path: str = "", **more: Any) -> Rule:
        """One more rule."""
        rule = Rule(kind, path, **more)
        self.rules.append(rule)
        return rule

    def clear(self) -> None:
        """All is well again."""
        self.rules.clear()

    def take(self, path: str, *, of_files: bool) -> Rule | None:
        """The rule for this request, used up by one."""
        for rule in self.rules:
            if (rule.kind in FILE_KINDS) is not of_files or not re.search(rule.path, path):
                continue
            if rule.times == 0 or self._rng.random() >= rule.share:
                continue
            if rule.times is not None:
                rule.times -= 1
            return rule
        return None


def rule_from(value: Any) -> Rule:
    """A rule from JSON. Raises ValueError that says what is wrong with it."""
    known = {f.name for f in fields(Rule)}
    if not isinstance(value, dict) or "kind" not in value:
        raise ValueError("a rule is an object with a kind")
    if unknown := sorted(value.keys() - known):
        raise ValueError(f"a rule has no {', '.join(unknown)}; it has: {', '.join(sorted(known))}")
    try:
        return Rule(**value)
    except (TypeError, re.error) as exc:
        raise ValueError(str(exc)) from exc
