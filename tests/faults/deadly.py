"""A consumer that dies of some records: `python -m tests.faults.deadly` is `wapipe run messages` with such a decode.

What a fault in a C extension does: no exception, no log line, the process is gone.
"""

from __future__ import annotations

import os
import signal
from functools import wraps

from consumers.messages import Messages
from pipeline.batch import Event
from pipeline.cli.process import run

KILLS, EXITS = b"kill me", b"exit me"


def main() -> None:
    """Puts the fault in, and runs the consumer."""
    original = Messages.decode

    @wraps(original)
    def decode(self: Messages, event: Event) -> object:
        if KILLS in event.value:
            os.kill(os.getpid(), signal.SIGKILL)
        if EXITS in event.value:
            os._exit(1)
        return original(self, event)

    Messages.decode = decode  # type: ignore[assignment,method-assign]
    run(["messages"])


if __name__ == "__main__":
    main()
