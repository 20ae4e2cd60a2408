"""A server of files for the benchmark of media: every path has bytes of its own. `python -m tests.bench.files PORT BYTES`."""

from __future__ import annotations

import hashlib
import sys

import uvicorn
from starlette.types import Receive, Scope, Send


def main(port: int, size: int) -> None:
    """Serves until SIGTERM."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        digest = hashlib.sha256(scope["path"].encode()).digest()
        headers = [(b"content-type", b"image/jpeg"), (b"content-length", b"%d" % size)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": (digest * (size // 32 + 1))[:size]})

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False, lifespan="off")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
