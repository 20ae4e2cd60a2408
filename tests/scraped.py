"""One answer of /metrics as numbers to compare."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Scraped:
    """Samples by name and labels."""

    samples: dict[tuple[str, Labels], float]

    @classmethod
    def of(cls, text: str) -> Scraped:
        """From Prometheus' text format."""
        families = text_string_to_metric_families(text)
        return cls({(s.name, frozenset(s.labels.items())): s.value for f in families for s in f.samples})

    def find(self, name: str, **labels: str) -> Iterator[tuple[dict[str, str], float]]:
        """Every sample of the name that has these labels, with all of its labels."""
        for (found, all_labels), value in self.samples.items():
            if found == name and labels.items() <= dict(all_labels).items():
                yield dict(all_labels), value

    def total(self, name: str, **labels: str) -> float:
        """Their sum; 0 without one."""
        return sum(value for _, value in self.find(name, **labels))

    def by(self, label: str, name: str, **labels: str) -> dict[str, float]:
        """Their sums by one more label; what is 0 is left out."""
        sums: dict[str, float] = {}
        for found, value in self.find(name, **labels):
            sums[found[label]] = sums.get(found[label], 0.0) + value
        return {key: value for key, value in sums.items() if value}

    def __sub__(self, before: Scraped) -> Scraped:
        """What was added since; a sample that was not there counts from 0."""
        return Scraped({key: value - before.samples.get(key, 0.0) for key, value in self.samples.items()})
