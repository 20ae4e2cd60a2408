"""`wapipe migrate` and `wapipe topics`: bring database and broker to what the code expects."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from pipeline.broker import TopicState, apply_topics, topic_states
from pipeline.cli import run_async
from pipeline.logs import setup_logging
from pipeline.migrate import migrate as apply_migrations
from pipeline.registry import consumer_names
from pipeline.settings import load_settings, require_secret
from schemas.topics import Topic, all_topics

out = Console(highlight=False)
topics = typer.Typer(help="Topics of the broker: what there should be, and making it so.", no_args_is_help=True)


def migrate(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be applied.")] = False,
    pooled: Annotated[bool, typer.Option("--pooled", help="Go through PgBouncer instead of past it.")] = False,
) -> None:
    """Apply the numbered migrations to the database; safe to repeat and to run from several places at once.

    Works on TimescaleDB (either licence) and on plain PostgreSQL. An applied file that was edited since is refused.

    Examples:

      wapipe migrate --dry-run

      wapipe migrate

    Exit codes: 0 done, 75 database away, 78 configuration or an edited migration.
    """
    settings = load_settings()
    setup_logging("WARNING")
    require_secret(settings.database.password, "WHATSAPP_DB_PASSWORD", "the database is reached with it")
    report = run_async(apply_migrations(settings.database, dry_run=dry_run, direct=not pooled))
    verb = "would apply" if dry_run else "applied"
    for name in report.applied:
        out.print(f"{verb} {name}")
    out.print(f"{len(report.already)} already there. {report.flavour.text}")


def known_topics() -> list[Topic]:
    """Every topic of this installation: live ones, work ones and a dead-letter topic for each consumer."""
    return all_topics(consumer_names())


@topics.command("apply")
def apply() -> None:
    """Create missing topics and grow those with too few partitions; never shrinks, never deletes.

    Example: WAPIPE_KAFKA_PARTITIONS=24 wapipe topics apply

    Exit codes: 0 done, 75 broker away.
    """
    settings = load_settings()
    setup_logging("WARNING")
    done = run_async(apply_topics(settings.kafka, known_topics()))
    for line in done or ["all topics are there"]:
        out.print(line)


@topics.command("show")
def show(
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """Show every topic with the partitions it has and should have.

    Example: wapipe topics show --json

    Exit codes: 0 all there, 1 some are missing or too small, 75 broker away.
    """
    settings = load_settings()
    setup_logging("WARNING")
    states = run_async(topic_states(settings.kafka, known_topics()))
    if as_json:
        out.print_json(data=[_row(s) for s in states])
    else:
        table = Table("topic", "partitions", "wanted", "retention", "what for")
        for s in states:
            days = s.topic.retention_ms / 86_400_000
            table.add_row(s.name, str(s.partitions or "missing"), str(s.wanted), f"{days:g} d", s.topic.summary)
        out.print(table)
    if any(s.partitions < s.wanted for s in states):
        raise typer.Exit(1)


def _row(state: TopicState) -> dict[str, object]:
    return {
        "topic": state.name, "partitions": state.partitions, "wanted": state.wanted,
        "retention_ms": state.topic.retention_ms, "summary": state.topic.summary,
    }  # fmt: skip
