"""How the database finds a page of messages and what is said of it: by indexes, in every table that grows."""

from __future__ import annotations

from pipeline.migrate import migrate
from pipeline.postgres import open_pool
from pipeline.settings import load_settings
from tests.bench.reading import fill, plans


async def test_no_page_scans_a_whole_table(settings_env: dict[str, str], figures: dict[str, list[str]]) -> None:
    """60,000 messages in 30 chunks, with acks, edits, revokes and reactions; the plans stand at the end of the run."""
    settings = load_settings(settings_env)
    await migrate(settings.database)
    await fill(settings, 60_000, 30)
    async with await open_pool(settings.database, name="plans", max_size=1) as pool:
        figures["plans"] += await plans(pool)
    assert len(figures["plans"]) == 2
