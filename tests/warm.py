"""Processes of wapipe that start with everything imported: `python -m tests.warm SOCKET` imports once and forks.

An import costs up to a second of processor time, and the tests start hundreds of processes; what is killed is as real as one
that imported by itself. Every connection to SOCKET is one process: a line of JSON says what to run, lines back say its
number and, when it has ended, its exit status. All of them end with whoever holds this one's stdin. Nobody is warm who is
started by `wapipe up` and `wapipe demo`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import itertools
import json
import os
import runpy
import selectors
import shutil
import signal
import socket
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

_NOT_YET_S = 0.02  # between two looks at whether the server listens
# Beside what processes import: what commands do. Not the commands themselves: their consoles remember the environment.
_WARM = (
    "aioboto3", "producers.simulator.rest", "pipeline.api", "pipeline.cli", "pipeline.dlq", "pipeline.ledger", "pipeline.media",
    "pipeline.migrate", "pipeline.replay", "pipeline.spool", "pipeline.sync", "pipeline.waha", "rich.progress", "rich.table",
)  # fmt: skip


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

    async def run(
        self, module: str, arguments: Sequence[str], env: Mapping[str, str], log: Path, errors: Path | None = None
    ) -> WarmProcess:
        """`python -m module arguments…` in this environment, its output at the end of `log`, or in two files."""
        reader, writer = await asyncio.open_unix_connection(str(self._path))
        what = {
            "module": module,
            "arguments": list(arguments),
            "env": dict(env),
            "log": str(log),
            "errors": str(errors or log),
        }
        writer.write(json.dumps(what).encode() + b"\n")
        pid = int(await reader.readline())
        return WarmProcess(pid, reader, writer, log, errors)

    async def stop(self) -> None:
        """Ends it, and whatever it started."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            await self._process.wait()


class WarmProcess:
    """As much of asyncio.subprocess.Process as is needed."""

    def __init__(
        self, pid: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, log: Path, errors: Path | None
    ) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._output, self._errors = log, errors
        self._ended = asyncio.create_task(self._end(reader, writer), name=f"end of {pid}")

    def send_signal(self, number: signal.Signals) -> None:
        """Nothing happens when it has ended."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # it has, and that was not read yet
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        """Its exit status; minus the number of the signal that ended it."""
        return await asyncio.shield(self._ended)

    async def communicate(self) -> tuple[bytes, bytes]:
        """What it said on stdout and stderr, once it has ended."""
        await self.wait()
        return self._output.read_bytes(), self._errors.read_bytes() if self._errors else b""

    async def _end(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
        line = await reader.readline()
        self.returncode = int(line or -signal.SIGKILL)  # nothing is said when all of them ended
        writer.close()
        return self.returncode


# ---------------------------------------------------------------- one for the tests of this process
class _Shared:
    """Starts at its first use; `stop_shared` ends it."""

    starting: asyncio.Task[WarmServer] | None = None
    folder: Path
    numbers = itertools.count()


async def start(module: str, *arguments: str, env: Mapping[str, str], log: Path | None = None) -> WarmProcess:
    """`python -m module arguments…` with these variables and none of wapipe's from ours. Its output goes to the end of `log`;
    without one, `communicate` has it."""
    if _Shared.starting is None:
        _Shared.folder = Path(tempfile.mkdtemp(prefix="wapipe-warm-"))
        _Shared.starting = asyncio.create_task(_start_shared(), name="warm")
    server = await asyncio.shield(_Shared.starting)
    whole = inherited() | dict(env)
    if log is not None:
        return await server.run(module, arguments, whole, log)
    output = _Shared.folder / f"{next(_Shared.numbers)}.out"
    return await server.run(module, arguments, whole, output, output.with_suffix(".err"))


async def wapipe(*arguments: str, env: Mapping[str, str]) -> tuple[int, str, str]:
    """`wapipe arguments…` to its end: exit status, stdout, stderr."""
    process = await start("pipeline.cli", *arguments, env=env)
    output, errors = await process.communicate()
    return await process.wait(), output.decode(), errors.decode()


async def stop_shared() -> None:
    """Ends the processes, and removes what they said."""
    if _Shared.starting is not None:
        await (await _Shared.starting).stop()
        shutil.rmtree(_Shared.folder, ignore_errors=True)
        _Shared.starting = None


async def _start_shared() -> WarmServer:
    server = WarmServer(_Shared.folder, inherited())
    await server.start()
    return server


def inherited() -> dict[str, str]:
    """Our environment without wapipe's settings."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("WAPIPE_", "WHATSAPP_", "POSTGRES_"))}


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
        writing = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        for path, mode, target in (
            (os.devnull, os.O_RDONLY, 0),
            (str(what["log"]), writing, 1),
            (str(what["errors"]), writing, 2),
        ):
            os.dup2(os.open(path, mode), target)
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
    for name in _WARM:
        importlib.import_module(name)
    gc.freeze()
    _Forks(sys.argv[1]).serve()


if __name__ == "__main__":
    main()
