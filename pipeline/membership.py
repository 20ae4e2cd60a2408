"""Notices that another live process uses our static group id: the two throw each other out of the group, over and over.

A member is thrown out when the broker no longer knows its member id. That happens after a session timeout without a
heartbeat, and otherwise only when somebody joins with the same static id. Knows no Kafka; the runner keeps it told.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from pipeline.errors import ConfigError

log = logging.getLogger("wapipe.membership")

# A newcomer is thrown out by the one that was there first within a heartbeat (3 s); the first one is one count behind.
_TOO_OFTEN = 3


class StaticId:
    """The claim of one process to `instance_id` (None: there is none, and nothing is watched)."""

    def __init__(
        self, instance_id: str | None, session_timeout_s: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._id, self._session_s, self._clock = instance_id, session_timeout_s, clock
        self._member_id = ""
        self._member_since = self._joined_at = 0.0
        self._established = False  # was once a member in peace for a session timeout
        self._thefts = 0

    def joined(self, member_id: str) -> None:
        """The group gave partitions to this process as `member_id`. Raises ConfigError when another process has had our
        id since before us: one of the two must go, and the newcomer does."""
        if self._id is None:
            return
        now, before = self._clock(), self._joined_at
        self._joined_at = now
        if self._member_id and now - self._member_since >= self._session_s:
            self._established, self._thefts = True, 0
        if member_id == self._member_id:
            return
        stolen = self._member_id != "" and now - before < self._session_s
        self._member_id, self._member_since = member_id, now
        if not stolen:
            return
        self._thefts += 1
        log.error("instance_id.taken", extra={"instance_id": self._id, "times": self._thefts})
        if self._thefts >= _TOO_OFTEN and not self._established:
            raise ConfigError(
                f"WAPIPE_INSTANCE_ID={self._id} is used by another live process of this consumer: they throw each other "
                "out of the group. Give each process an id of its own, or none"
            )

    @property
    def taken(self) -> bool:
        """True while another process claims the id."""
        return self._thefts > 0 and self._clock() - self._joined_at < self._session_s
