"""What the fault tests break: sites of wapipe's processes, kept alive, on servers of their own.

Processes reach broker and database through two proxies of their site, the tests themselves directly. A process that ends
is started again at once, as an orchestrator would; how each of them ended is remembered.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import ssl
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import httpx

from pipeline.broker import apply_topics
from pipeline.errors import TransientError
from pipeline.ledger import Ledger, read_ledger
from pipeline.local.ports import free_port
from pipeline.migrate import migrate
from pipeline.registry import consumer_names
from pipeline.settings import load_settings
from schemas.topics import all_topics
from tests.faults.proxy import Proxy
from tests.faults.servers import ProxiedServers, Server
from tests.site import until
from tests.warm import WarmProcess, WarmServer, inherited

PATIENCE_S = 300.0  # of every condition: two busy cores, and backlogs that are caught up with
GATEWAY = "gateway"
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # unused; the one that a client makes for itself costs it 20 ms
_FAILURES = 5  # ends of its own before a process is given up


class Rig:
    """The servers of a run, and sites on them, each with proxies of its own: several may be broken in different ways."""

    def __init__(self) -> None:
        self.servers = ProxiedServers()
        self.kafka: Server
        self.database: Server
        self.database_kind = ""
        self._idle = list(self.servers.proxies)
        self._warm = WarmServer(self.servers.root, inherited())
        self._store: Server | None = None
        self._ends = contextlib.AsyncExitStack()

    async def start(self) -> None:
        """Starts both servers, and the proxies of the broker."""
        self._ends.push_async_callback(self.servers.close)
        self._ends.push_async_callback(self._warm.stop)
        kafka, database, _ = await asyncio.gather(self.servers.kafka(), self.servers.database(), self._warm.start())
        self.kafka, self.database, self.database_kind = Server(kafka.child), Server(database.child), database.kind
        self._ends.push_async_callback(self.kafka.down)
        self._ends.push_async_callback(self.database.down)
        for proxy in self.servers.proxies:
            self._ends.push_async_callback(proxy.stop)
            await proxy.start()

    async def store(self) -> Server:
        """S3, for who needs it."""
        if self._store is None:
            self._store = Server((await self.servers.s3()).child)
            self._ends.push_async_callback(self._store.down)
        return self._store

    async def stop(self) -> None:
        """Stops whatever was started."""
        await self._ends.aclose()

    async def heal(self) -> None:
        """Both servers up, whatever the test before left."""
        for server in (self.kafka, self.database):
            if server.child.returncode is not None:
                await server.up()

    async def environment(self, broker: Proxy, database: Proxy) -> dict[str, str]:
        """Settings of a fresh site as its processes have them: through these proxies."""
        server = await self.servers.database()
        return {
            "WAPIPE_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{broker.port}",
            "WAPIPE_TOPIC_PREFIX": f"f{secrets.token_hex(4)}.",
            "WAPIPE_SESSION_TIMEOUT_MS": "6000",
            "WHATSAPP_DB_HOST": "127.0.0.1",
            "WHATSAPP_DB_PORT": str(database.port),
            "WHATSAPP_DB_USER": server.user,
            "WHATSAPP_DB_PASSWORD": server.password,
            "WHATSAPP_DB_NAME": await server.create_database(),
            "WHATSAPP_HOOK_HMAC_KEY": secrets.token_hex(16),
            "WHATSAPP_GATEWAY_API_TOKEN": secrets.token_hex(16),
            "WHATSAPP_GATEWAY_API_PORT": str(free_port()),
        }

    @contextlib.asynccontextmanager
    async def site(self, logs: Path, *names: str, **extra: str) -> AsyncIterator[Site]:
        """A fresh site with these processes running and ready; `messages`, `messages-2`, … are one consumer."""
        async with self._proxies() as proxies:
            environment = await self.environment(*proxies) | {"WAPIPE_SPOOL_DIR": str(logs / "spool")} | extra
            kafka, database = await self.servers.kafka(), await self.servers.database()
            direct = {"WAPIPE_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap, "WHATSAPP_DB_PORT": str(database.port)}
            site = Site(environment, environment | direct, logs, self._warm, *proxies)
            await migrate(site.settings.database)
            await apply_topics(site.settings.kafka, all_topics(consumer_names()))
            try:
                for name in names:
                    await site.add(name)
                await site.ready()
                yield site
            finally:
                await self.heal()
                await site.broker_proxy.set("pass")
                await site.database_proxy.set("pass")
                await site.stop()

    @contextlib.asynccontextmanager
    async def _proxies(self) -> AsyncIterator[tuple[Proxy, Proxy]]:
        """To the broker and to the database. They pass when the site's processes are told to end."""
        broker, database = self._idle.pop(), Proxy((await self.servers.database()).port)
        try:
            await database.start()
            yield broker, database
        finally:
            await database.stop()
            self._idle.append(broker)


Start = Callable[[Path], Awaitable[asyncio.subprocess.Process | WarmProcess]]


def cold(command: Sequence[str], environment: Mapping[str, str]) -> Start:
    """Starts a command, its output at the end of the file that it gets."""

    async def start(path: Path) -> asyncio.subprocess.Process:
        with path.open("ab") as log:
            return await asyncio.create_subprocess_exec(*command, env=environment, stdout=log, stderr=log)

    return start


class Member:
    """One process of a site. While it is `kept`, it is started again whenever it ends."""

    def __init__(self, name: str, start: Start, port: int, log: Path) -> None:
        self.name, self.port, self.log = name, port, log
        self.kept = True
        self.ends: Counter[int] = Counter()  # exit statuses; minus the signal's number
        self.process: asyncio.subprocess.Process | WarmProcess | None = None
        self._start = start
        self._keeper: asyncio.Task[None] | None = None
        self._told: signal.Signals | None = None  # to end for good

    async def start(self, *, keep: bool) -> None:
        """Starts it, and keeps it."""
        self.kept, self._told = keep, None
        self.process = await self._start(self.log)
        self._keeper = asyncio.create_task(self._keep(), name=f"keep {self.name}")

    @property
    def running(self) -> bool:
        """True while it has a process, or will have one again."""
        return self._keeper is not None and not self._keeper.done()

    def send(self, number: signal.Signals) -> bool:
        """False when it is not running at this moment."""
        if self.process is None or self.process.returncode is not None:
            return False
        self.process.send_signal(number)
        return True

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ends it for good, by force if it does not obey within 60 s; answers its exit status."""
        self.kept, self._told = False, number
        self.send(number)
        assert self._keeper is not None
        try:
            async with asyncio.timeout(60):
                await asyncio.shield(self._keeper)
        except TimeoutError:
            self.send(signal.SIGKILL)
            await self._keeper
            raise AssertionError(f"{self.name} did not end on {number.name}: {self.tail()}") from None
        assert self.process is not None
        assert self.process.returncode is not None
        return self.process.returncode

    async def ended(self) -> int:
        """Waits until a process that is not kept has ended by itself; answers its exit status."""
        assert self._keeper is not None
        assert not self.kept
        try:
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.shield(self._keeper)
        except TimeoutError:
            raise AssertionError(f"{self.name} does not end: {self.tail()}") from None
        assert self.process is not None
        assert self.process.returncode is not None
        return self.process.returncode

    async def status(self, path: str = "/ready") -> tuple[int, str]:
        """HTTP status and body; (0, "") when it does not listen."""
        async with httpx.AsyncClient(verify=_NO_TLS) as client:
            try:
                answer = await client.get(f"http://127.0.0.1:{self.port}{path}", timeout=10)
            except httpx.TransportError:
                return 0, ""
        return answer.status_code, answer.text

    async def ready(self) -> None:
        """Waits until it is ready."""

        answer = ""

        async def probe() -> bool | None:
            nonlocal answer
            failures = self.ends.total() - self.ends[-signal.SIGKILL]
            assert failures < _FAILURES, f"{self.name} ended with {dict(self.ends)}: {self.tail()}"
            status, answer = await self.status()
            return True if status == 200 else None

        try:
            await until(probe, f"{self.name} to be ready", PATIENCE_S)
        except AssertionError as exc:
            raise AssertionError(f"{exc}; it says {answer!r}; its log ends with {self.tail()}") from None

    async def metric(self, start: str) -> float:
        """The sum of the samples whose line starts so."""
        _, text = await self.status("/metrics")
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(start))

    def said(self, slug: str) -> int:
        """How often it logged this."""
        return self.log.read_text("utf-8", "replace").count(f'"{slug}"')

    def tail(self) -> str:
        """The end of its log."""
        return self.log.read_text("utf-8", "replace")[-3000:]

    async def _keep(self) -> None:
        while True:
            assert self.process is not None
            self.ends[await self.process.wait()] += 1
            if not self.kept:
                return
            self.process = await self._start(self.log)
            if self._told is not None:  # while it was started
                self.process.send_signal(self._told)


class Site:
    """wapipe's processes on one database and one prefix. `settings` reach the servers directly."""

    def __init__(
        self,
        environment: dict[str, str],
        direct: dict[str, str],
        logs: Path,
        warm: WarmServer,
        broker_proxy: Proxy,
        database_proxy: Proxy,
    ) -> None:
        self.environment, self.direct, self.logs = environment, direct, logs
        self.broker_proxy, self.database_proxy = broker_proxy, database_proxy
        self.settings = load_settings(direct)
        self.members: dict[str, Member] = {}
        self._warm, self._inherited = warm, inherited()

    @property
    def webhook(self) -> str:
        """Where deliveries go."""
        return f"{self.settings.origin}/webhook"

    @property
    def hmac_key(self) -> str:
        """The key that signs them."""
        key = self.settings.ingress.hmac_key
        assert key is not None
        return key.get_secret_value()

    async def add(
        self,
        name: str,
        *,
        module: str = "pipeline.cli",
        arguments: tuple[str, ...] = (),
        keep: bool = True,
        **extra: str,
    ) -> Member:
        """Starts a process. A number behind the process's name tells several of one kind apart."""
        process = name.partition("-")[0]
        port = self.settings.api.port if process == GATEWAY else free_port()
        environment = self._inherited | self.environment | extra
        if process != GATEWAY:
            environment["WAPIPE_METRICS_PORT"] = str(port)

        async def start(log: Path) -> WarmProcess:
            return await self._warm.run(module, arguments or ("run", process), environment, log)

        member = self.members[name] = Member(name, start, port, self.logs / f"{name}.log")
        await member.start(keep=keep)
        return member

    async def command(self, *arguments: str) -> str:
        """What `wapipe …` prints; anything but exit status 0 fails the test. It reaches the servers directly."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "pipeline.cli", *arguments, env=self._inherited | self.direct,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        output, errors = await process.communicate()
        assert process.returncode == 0, (arguments, process.returncode, output[-2000:], errors[-2000:])
        return output.decode()

    async def ready(self) -> None:
        """Waits until every process is ready."""
        await asyncio.gather(*(m.ready() for m in self.members.values()))

    async def stop(self) -> None:
        """Ends every process."""
        await asyncio.gather(*(m.stop() for m in self.members.values() if m.running))

    async def settled(self, received: int, patience_s: float = PATIENCE_S) -> Ledger:
        """The books when everything received so far is read by everybody."""

        last: Ledger | None = None

        async def read() -> Ledger | None:
            nonlocal last
            try:
                last = await read_ledger(self.settings)
            except (TransientError, TimeoutError):  # a server that has just come back
                return None
            done = last.received + last.parked >= received and last.lag == 0 and last.unread == 0
            return last if done else None

        try:
            return await until(read, "the consumers to read everything", patience_s, every_s=0.5)
        except AssertionError as exc:
            raise AssertionError(f"{exc}: {received} were received, and the books say {last}") from None

    def strange_ends(self, *expected: int) -> dict[str, Counter[int]]:
        """Exit statuses besides `expected`, by process."""
        ends = {n: Counter({c: k for c, k in m.ends.items() if c not in expected}) for n, m in self.members.items()}
        return {name: counter for name, counter in ends.items() if counter}


@contextlib.asynccontextmanager
async def running_waha(waha: Member) -> AsyncIterator[None]:
    """A simulated WAHA, kept, from its first answer to the end of the block."""
    await waha.start(keep=True)
    try:

        async def answers() -> bool | None:
            return True if (await waha.status("/ping"))[0] == 200 else None

        await until(answers, "the simulated WAHA", PATIENCE_S)
        yield
    finally:
        await waha.stop()
