"""From where to where in each partition: times and offsets of an order, made into offsets once, before the start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import TopicPartition

from pipeline.batch import Partition
from pipeline.broker import log_bounds, topic_states, translated
from pipeline.errors import ConfigError
from pipeline.replay.spec import Bound, Spec
from pipeline.settings import KafkaSettings
from schemas.topics import Topic


@dataclass(frozen=True, slots=True)
class Range:
    """Offsets [first, end) of a partition. `gone`: how many before `first` were asked for and are deleted already."""

    partition: Partition
    first: int
    end: int
    gone: int = 0

    @property
    def records(self) -> int:
        """Offsets to read."""
        return self.end - self.first


def resolve(
    spec: Spec, bounds: Mapping[Partition, tuple[int, int]], times: Mapping[Bound, Mapping[Partition, int | None]]
) -> list[Range]:
    """The ranges that are not empty. `times`: the first offset at or after each time of the order, None when there is none."""
    ranges: list[Range] = []
    for partition, (begin, end) in sorted(bounds.items()):
        first = _at(spec.start, begin, end, partition, times)
        last = _at(spec.end, end, end, partition, times)
        gone = max(0, begin - first) if spec.start.offset is not None else 0
        first, last = max(first, begin), min(last, end)
        if first < last:
            ranges.append(Range(partition, first, last, gone))
    return ranges


def _at(
    bound: Bound, default: int, end: int, partition: Partition, times: Mapping[Bound, Mapping[Partition, int | None]]
) -> int:
    if bound.offset is not None:
        return bound.offset
    if bound.time_ms is not None:
        found = times[bound].get(partition)
        return end if found is None else found  # nothing is so young: a range from there is empty
    return default


async def fetch_ranges(client: Any, kafka: KafkaSettings, spec: Spec, topics: Sequence[Topic]) -> list[Range]:
    """Asks the broker. Raises TransientError, and ConfigError for a partition that no topic of the order has."""
    states = await topic_states(kafka, topics)
    wanted = {
        TopicPartition(s.name, p): Partition(s.topic.name, p)
        for s in states
        for p in range(s.partitions)
        if not spec.partitions or p in spec.partitions
    }
    if not wanted:
        counts = ", ".join(f"{s.topic.name} has {s.partitions}" for s in states)
        raise ConfigError(f"no topic has the partitions {', '.join(map(str, spec.partitions))}: {counts}")
    client.assign(list(wanted))  # fetches all their metadata at once instead of topic by topic with pauses
    bounds = {wanted[tp]: pair for tp, pair in (await log_bounds(client, list(wanted))).items()}
    times: dict[Bound, dict[Partition, int | None]] = {}
    for bound in (spec.start, spec.end):
        if bound.time_ms is not None:
            async with translated():
                found = await client.offsets_for_times(dict.fromkeys(wanted, bound.time_ms))
            times[bound] = {wanted[tp]: at.offset if at else None for tp, at in found.items()}
    return resolve(spec, bounds, times)
