"""The parts of the downloads put together from the settings: for the process, for tests and for the benchmark."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from pipeline.errors import ConfigError
from pipeline.media.asking import Asking
from pipeline.media.fetch import Fetcher
from pipeline.media.jobs import Jobs
from pipeline.media.loops import Loops
from pipeline.media.objects import Objects
from pipeline.media.origins import Guard, OriginRefusedError
from pipeline.media.profiles import Profiles
from pipeline.media.sources import AskAgain, Sources
from pipeline.media.thumbnails import Thumbnails
from pipeline.media.work import Worker, scanner_of
from pipeline.pause import Pauses
from pipeline.postgres import Pool
from pipeline.s3 import open_bucket
from pipeline.settings import Settings
from pipeline.waha.servers import WahaServers


@dataclass(frozen=True, slots=True)
class Downloads:
    """Everything of one process that fetches files."""

    loops: Loops
    thumbnails: Thumbnails | None
    profiles: Profiles | None

    def wake(self) -> None:
        """There may be jobs."""
        self.loops.wake.set()

    async def run(self, stop: asyncio.Event, *, grace_s: float) -> None:
        """Until `stop`; what is under way then has `grace_s`."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.loops.run(stop, grace_s=grace_s))
            if self.thumbnails is not None:
                group.create_task(self.thumbnails.run(stop))
            if self.profiles is not None:
                group.create_task(self.profiles.run(stop))


@asynccontextmanager
async def downloads(
    settings: Settings, pool: Pool, *, pauses: Pauses | None = None, ask: AskAgain | None = None
) -> AsyncIterator[Downloads]:
    """Raises ConfigError for an address that no file can be fetched from. `pauses` learns what is waited for. `ask`
    instead of WAHA's REST, for tests."""
    media, waha = settings.media, settings.waha
    guards = make_guards(settings, media.origins)
    keys = {source: key.get_secret_value() for source, key in waha.source_api_keys.items()}
    if waha.api_key is not None:
        keys["default"] = waha.api_key.get_secret_value()
    async with AsyncExitStack() as stack:
        bucket = await stack.enter_async_context(open_bucket(settings.s3, connections=2 * media.concurrency + 4))
        fetcher = await stack.enter_async_context(Fetcher(connections=media.concurrency, timeout_s=media.timeout_s))
        servers = await stack.enter_async_context(WahaServers(waha))
        sources = Sources(
            fetcher, bucket, guards, keys, waha_buckets=frozenset(listed(media.waha_buckets)),
            ask=ask or Asking(servers), ask_rate_per_s=media.ask_rate_per_s,
        )  # fmt: skip
        jobs = Jobs(pool, lease_s=media.lease_s)
        worker = Worker(jobs, Objects(pool), sources, bucket, media)
        thumbnails = Thumbnails(pool, bucket, pixels=media.thumbnail_pixels) if media.thumbnails else None
        loops = Loops(worker, jobs, bucket, sources.names, media, pauses=Pauses("media") if pauses is None else pauses)
        profiles = None
        if media.profile_pictures:
            profiles = Profiles(
                pool, bucket, fetcher, servers, media,
                guards=make_guards(settings, media.picture_origins), keys=keys, scanner=scanner_of(media),
            )  # fmt: skip
        yield Downloads(loops, thumbnails, profiles)


def make_guards(settings: Settings, origins: str) -> dict[str, Guard]:
    """By source; `origins` are allowed beside WAHA itself. Raises ConfigError."""
    try:
        return {source: Guard(url, listed(origins)) for source, url in settings.waha.base_urls().items()}
    except OriginRefusedError as exc:
        names = "WAPIPE_WAHA_URL, WAPIPE_MEDIA_ORIGINS or WAPIPE_MEDIA_PICTURE_ORIGINS"
        raise ConfigError(f"{names}: {exc.reason}") from exc


def listed(text: str) -> list[str]:
    """The parts of a comma separated setting."""
    return [part.strip() for part in text.split(",") if part.strip()]
