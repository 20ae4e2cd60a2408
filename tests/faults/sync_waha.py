"""A simulated WAHA with a history, as a process that can be killed: `python -m tests.faults.sync_waha PORT KEY CALLS PAST`.

PAST is the history as JSON, the same at each start. Every request for a page of messages is a byte in the file CALLS, which
outlives the process.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.lifecycle import install_signals, serve_http
from producers.simulator.rest import Past, RestServer, SimulatedWaha


def past_argument(past: Past) -> str:
    """A history for the command line."""
    return json.dumps(dataclasses.asdict(past))


def past_from(argument: str) -> Past:
    """The history of the command line."""
    given = json.loads(argument)
    return Past(**given | {"engines": tuple(given["engines"])})


class _Counted:
    def __init__(self, inner: ASGIApp, calls: Path) -> None:
        self._inner, self._calls = inner, calls.open("ab", buffering=0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].endswith("/messages"):
            self._calls.write(b".")
        await self._inner(scope, receive, send)


async def main(port: int, key: str, calls: Path, past: Past) -> None:
    app = _Counted(RestServer(SimulatedWaha(past), key).app(), calls)
    await serve_http(app, host="127.0.0.1", port=port, stop=install_signals(), name="simulated WAHA")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), past_from(sys.argv[4])))
