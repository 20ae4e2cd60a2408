"""Processes of wapipe that start with everything imported: `python -m tests.faults.warm SOCKET` imports once and forks.

An import costs a second of processor time, and a kill test starts hundreds of processes; what is killed is as real as one
that imported by itself. Every connection to SOCKET is one process: a line of JSON says what to run, lines back say its
number and, when it has ended, its exit status. All of them end with whoever holds this one's stdin.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

_NOT_YET_S = 0.02  # between two looks at whether the server listens


class WarmServer:
    """The test's side: starts the forking process and has it fork. Use `start` first and `stop` last."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._path, self._environment = folder / "warm.socket", environment
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Returns when it listens."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", __name__, str(self._path), env=dict(self._environment), stdin=asyncio.subprocess.PIPE
        )
        while not self._path.exists():
            assert self._process.returncode is None, "the warm process does not start"
            await asyncio.sleep(_NOT_YET_S)

    async def run(self, module: str, arguments: Sequence[str], env: Mapping[str, str], log: Path) -> WarmProcess:
        """`python -m module arguments…` in this environment, its output at the end of `log`."""
        reader, writer = await asyncio.open_unix_connection(str(self._path))
        what = {"module": module, "arguments": list(arguments), "env": dict(env), "log": str(log)}
        writer.write(json.dumps(what).encode() + b"\n")
        pid = int(await reader.readline())
        return WarmProcess(pid, reader, writer)

    async def stop(self) -> None:
        """Ends it, and whatever it started."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            await self._process.wait()


class WarmProcess:
    """As much of asyncio.subprocess.Process as is needed."""

    def __init__(self, pid: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ended = asyncio.create_task(self._end(reader, writer), name=f"end of {pid}")

    def send_signal(self, number: signal.Signals) -> None:
        """Nothing happens when it has ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    async def wait(self) -> int:
        """Its exit status; minus the number of the signal that ended it."""
        return await asyncio.shield(self._ended)

    async def _end(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
        line = await reader.readline()
        self.returncode = int(line or -signal.SIGKILL)  # nothing is said when all of them ended
        writer.close()
        return self.returncode


# ---------------------------------------------------------------- the process that forks
class _Forks:
    def __init__(self, path: str) -> None:
        self._children: dict[int, socket.socket] = {}
        self._waking, waking = socket.socketpair()
        for one in (self._waking, waking):
            one.setblocking(False)
        self._wakes = waking  # kept open
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(waking.fileno(), warn_on_full_buffer=False)
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(path + "~")
        self._server.listen(64)
        os.rename(path + "~", path)

    def serve(self) -> None:
        """Until stdin ends."""
        with selectors.DefaultSelector() as selector:
            for one in (self._server, self._waking, sys.stdin):
                selector.register(one, selectors.EVENT_READ)
            while True:
                ready = [key.fileobj for key, _ in selector.select()]
                if sys.stdin in ready:
                    break
                if self._waking in ready:
                    self._waking.recv(4096)
                    self._reap()
                if self._server in ready:
                    self._fork(self._server.accept()[0])
        for pid in self._children:
            os.kill(pid, signal.SIGKILL)

    def _fork(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as lines:
            what = json.loads(lines.readline())
        pid = os.fork()
        if pid == 0:
            for one in (self._server, self._waking, self._wakes, connection, *self._children.values()):
                one.close()
            _become(what)
        self._children[pid] = connection
        connection.sendall(b"%d\n" % pid)

    def _reap(self) -> None:
        for pid, connection in list(self._children.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended:
                continue
            del self._children[pid]
            with contextlib.suppress(OSError), connection:
                connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))


def _become(what: dict[str, object]) -> None:
    """Never returns."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        nothing, log = (
            os.open(os.devnull, os.O_RDONLY),
            os.open(str(what["log"]), os.O_WRONLY | os.O_APPEND | os.O_CREAT),
        )
        for source, target in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        os.environ.clear()
        os.environ.update(what["env"])  # type: ignore[call-overload]
        sys.argv = [str(what["module"]), *what["arguments"]]  # type: ignore[misc]
        runpy.run_module(str(what["module"]), run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as exc:
        status = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    except BaseException:  # noqa: BLE001 - as the interpreter does it
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def main() -> None:
    """Imports what every process needs, and forks on demand."""
    from pipeline.cli import process  # noqa: F401
    from pipeline.registry import registry

    for one in registry().values():
        one.load()
    gc.freeze()
    _Forks(sys.argv[1]).serve()


if __name__ == "__main__":
    main()
