"""The parts of docs/ that are made from code. `make docs` writes them; tests/unit/test_docs.py holds them to the code."""

from __future__ import annotations

from pathlib import Path

from prometheus_client import Counter, Histogram
from prometheus_client.metrics import MetricWrapperBase

from pipeline import metrics
from tests.events_page import events_table, facts_table

DOCS = Path(__file__).parents[1] / "docs"
_UNITS = ("seconds", "bytes", "records", "rows", "ratio", "partitions", "sessions")


def all_metrics() -> list[MetricWrapperBase]:
    """What pipeline/metrics.py defines, in its order."""
    return [m for m in vars(metrics).values() if isinstance(m, MetricWrapperBase)]


def sample_name(metric: MetricWrapperBase) -> str:
    """The name to query: a counter's ends in _total."""
    [described] = metric.describe()
    return f"{described.name}_total" if isinstance(metric, Counter) else described.name


def metrics_table() -> str:
    """Name, type, labels, unit, sentence."""
    lines = ["| name | type | labels | unit | what |", "|---|---|---|---|---|"]
    for metric in all_metrics():
        [described] = metric.describe()
        labels = ", ".join(f"`{label}`" for label in metric._labelnames)
        lines.append(
            f"| `{sample_name(metric)}` | {described.type} | {labels} | {_unit(metric)} | {described.documentation} |"
        )
    return "\n".join(lines)


def label_table() -> str:
    """What each label may say."""
    lines = ["| label | values |", "|---|---|"]
    for (name, label), values in metrics.LABEL_SETS.items():
        if values == metrics.EVENTS:
            said = "event names of WAHA that `schemas/topics.py` routes, else `other`"
        else:
            said = ", ".join(f"`{v}`" for v in sorted(values))
        lines.append(f"| `{label}` of `{name}` | {said} |")
    lines += [f"| `{label}` | {bound} |" for label, bound in metrics.BOUNDED_LABELS.items()]
    return "\n".join(lines)


def _unit(metric: MetricWrapperBase) -> str:
    [described] = metric.describe()
    unit = next((u for u in _UNITS if described.name.endswith(f"_{u}")), None)
    if unit is None:
        unit = "1"
    return f"{unit} (buckets)" if isinstance(metric, Histogram) else unit


GENERATED = {
    "metrics.md": {"metrics": metrics_table, "labels": label_table},
    "events.md": {"events": events_table, "facts": facts_table},
}


def rendered(page: str) -> str:
    """The page with its parts as the code has them now. Each stands between `<!-- made: NAME -->` and `<!-- end -->`."""
    text = (DOCS / page).read_text(encoding="utf-8")
    for name, make in GENERATED[page].items():
        start = f"<!-- made: {name} -->\n"
        before, found, rest = text.partition(start)
        _, end, after = rest.partition("<!-- end -->")
        assert found, f"docs/{page} has no {start.strip()}"
        assert end, f"docs/{page}: {start.strip()} has no end"
        text = f"{before}{start}{make()}\n{end}{after}"
    return text


def main() -> None:
    """Writes every page."""
    for page in GENERATED:
        text = rendered(page)
        (DOCS / page).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
