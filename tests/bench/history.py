"""A simulated WAHA with a history for the benchmark of sync.

`python -m tests.bench.history PORT SESSIONS MESSAGES PAGE_MS ROW_MS`.
"""

from __future__ import annotations

import sys

import uvicorn

from producers.simulator.rest import Past, RestServer, SimulatedWaha


def past(sessions: int, messages: int) -> Past:
    """So many sessions with so many messages each."""
    return Past(engines=("GOWS",), sessions=sessions, messages=messages, chats=50)


def main(port: int, sessions: int, messages: int, page_ms: float, row_ms: float) -> None:
    """Serves until SIGTERM."""
    waha = SimulatedWaha(past(sessions, messages))
    app = RestServer(waha, page_s=page_ms / 1000, row_s=row_ms / 1000).app()
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False, lifespan="off")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]), *map(float, sys.argv[4:6]))
