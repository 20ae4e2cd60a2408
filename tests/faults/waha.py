"""A simulated WAHA as a process that can be killed: `python -m tests.faults.waha PORT KEY MESSAGES`. The same history each time.

Its files begin a new life with it, some are gone, some come slowly; what is gone it downloads again when it is asked.
"""

from __future__ import annotations

import asyncio
import sys

from pipeline.lifecycle import install_signals, serve_http
from producers.simulator.rest import Past, RestServer, SimulatedWaha


def simulated_waha(key: str, messages: int) -> RestServer:
    """With so many messages in each of four sessions, half of them with a file."""
    return RestServer(SimulatedWaha(Past(sessions=4, chats=4, messages=messages, media=0.5, twins=0)), key)


async def main(port: int, key: str, messages: int) -> None:
    server = simulated_waha(key, messages)
    server.faults.add("gone", share=0.1)
    server.faults.add("slow", share=0.3, delay_s=0.3)
    list(server.tell())  # its files are there from now on
    await serve_http(server.app(), host="127.0.0.1", port=port, stop=install_signals(), name="simulated WAHA")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
