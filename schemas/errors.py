"""What a pure function of schemas/ raises when a record can never become a fact."""

from __future__ import annotations


class MalformedError(ValueError):
    """The record can never be stored. `reason` is a slug of a closed set; `field` is the path in the payload."""

    def __init__(self, reason: str, field: str) -> None:
        super().__init__(f"{reason} at {field}")
        self.reason = reason
        self.field = field
