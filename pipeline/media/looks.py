"""What the metrics of media show: jobs by state, and how long those that wait have waited. Read from the table."""

from __future__ import annotations

from pipeline import metrics
from pipeline.postgres import Pool
from sql import queries

_SQL = queries("media")


async def look_at_jobs(pool: Pool) -> None:
    """See pipeline.watch.Look."""
    states = {row["state"]: row["jobs"] for row in await pool.fetch(_SQL["states"])}
    for state in metrics.MEDIA_STATES:
        metrics.MEDIA_JOBS.labels(state).set(states.get(state, 0))
    waiting = {row["deadline"]: row for row in await pool.fetch(_SQL["waiting"])}
    for deadline in metrics.MEDIA_DEADLINES:
        row = waiting.get(deadline)
        metrics.MEDIA_WAITING.labels(deadline).set(row["jobs"] if row else 0)
        metrics.MEDIA_OLDEST_SECONDS.labels(deadline).set(row["oldest_s"] if row else 0)
