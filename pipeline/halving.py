"""Finds which items of a batch are refused, by halving until each stands alone: O(k log n) attempts for k bad ones."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pipeline.errors import PoisonError


@dataclass(frozen=True, slots=True)
class Refused:
    """An item that is refused even alone, and how often the batch was halved until it was."""

    index: int
    error: PoisonError
    halvings: int


async def find_refused(count: int, attempt: Callable[[list[int]], Awaitable[None]]) -> list[Refused]:
    """What is refused of the items 0 … count-1, in order; everything else was accepted by some attempt.

    `attempt` takes indexes and raises PoisonError when any of them is bad; it then must have left nothing behind.
    """
    refused: list[Refused] = []

    async def halve(indexes: list[int], halvings: int) -> None:
        try:
            await attempt(indexes)
        except PoisonError as exc:
            if len(indexes) == 1:
                refused.append(Refused(indexes[0], exc, halvings))
                return
            middle = len(indexes) // 2
            await halve(indexes[:middle], halvings + 1)
            await halve(indexes[middle:], halvings + 1)

    if count:
        await halve(list(range(count)), 0)
    return refused
