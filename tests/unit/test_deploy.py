"""deploy/compose.yaml against the code: it cannot be started here, so settings and registry are held to it.

The schema below is a part of the Compose Specification: the keys that compose.yaml uses, and nothing besides.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import pytest
import yaml

from pipeline.registry import registry
from pipeline.settings import FOREIGN_NAMES, describe, load_settings, unknown_names

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
WAPIPE = {name: s for name, s in SERVICES.items() if s["image"].startswith("wapipe:")}
ONE_SHOT = {"migrate", "s3-init"}
EXAMPLE = (DEPLOY / ".env.example").read_text()
EXAMPLE_VALUES = dict(re.findall(r"^([A-Z0-9_]+)=(.*)$", EXAMPLE, re.MULTILINE))
SECRETS = (
    "WHATSAPP_DB_PASSWORD", "WHATSAPP_HOOK_HMAC_KEY", "WHATSAPP_GATEWAY_API_TOKEN",
    "WHATSAPP_MINIO_ROOT_PASSWORD", "WHATSAPP_API_KEY",
)  # fmt: skip
FILLED = EXAMPLE_VALUES | {name: f"value-of-{name}" for name in SECRETS}
SETTINGS = list(describe(load_settings({}), {}))

_TEXT, _SCALAR = {"type": "string"}, {"type": ["string", "number"]}
_TEXTS = {"type": "array", "items": _TEXT, "uniqueItems": True}
_COMMAND = {"oneOf": [_TEXT, {"type": "array", "items": _TEXT}]}
_DURATION = {"type": "string", "pattern": r"^(\d+(ms|s|m|h))+$"}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _map(values: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "patternProperties": {r"^[a-zA-Z0-9._-]+$": values},
        "additionalProperties": False,
    }


_CONDITION = {"enum": ["service_started", "service_healthy", "service_completed_successfully"]}
_CHECK = _object(
    test=_COMMAND,
    disable={"type": "boolean"},
    retries={"type": "integer"},
    **dict.fromkeys(("interval", "timeout", "start_period"), _DURATION),
)
_SERVICE = _object(
    **dict.fromkeys(("image", "restart", "shm_size"), _TEXT),
    **dict.fromkeys(("tmpfs", "cap_drop", "security_opt", "profiles", "ports", "volumes", "networks"), _TEXTS),
    **{key: {"type": "boolean"} for key in ("init", "read_only")},
    **dict.fromkeys(("entrypoint", "command"), _COMMAND),
    build=_object(context=_TEXT, dockerfile=_TEXT),
    stop_grace_period=_DURATION,
    environment=_map(_SCALAR),
    deploy=_object(replicas={"type": ["integer", "string"]}),
    logging=_object(driver=_TEXT, options=_map(_SCALAR)),
    depends_on=_map({**_object(condition=_CONDITION), "required": ["condition"]}),
    healthcheck=_CHECK,
)
_SCHEMA = {
    **_object(name=_TEXT, services=_map(_SERVICE), networks=_map(_object()), volumes=_map(_object())),
    "patternProperties": {"^x-": {}},
}


class MissingError(Exception):
    """A variable that has no default is not set."""


def interpolate(text: str, env: dict[str, str]) -> str:
    """What Compose makes of `text`: ${NAME:-default}, ${NAME:?message}, nested ones, and $$."""
    out, at = "", 0
    while at < len(text):
        if text.startswith("$$", at):
            out, at = out + "$", at + 2
        elif text.startswith("${", at):
            end = _closing(text, at)
            out, at = out + _variable(text[at + 2 : end], env), end + 1
        else:
            assert text[at] != "$", f"a bare $ in {text!r}"
            out, at = out + text[at], at + 1
    return out


def _closing(text: str, at: int) -> int:
    depth = 0
    for index in range(at, len(text)):
        depth += text.startswith("${", index) - (text[index] == "}")
        if depth == 0 and text[index] == "}":
            return index
    raise AssertionError(f"no closing brace in {text!r}")


def _variable(inner: str, env: dict[str, str]) -> str:
    match = re.fullmatch(r"([A-Z0-9_]+)(:[-?])(.*)", inner, re.DOTALL)
    assert match, f"${{{inner}}} has neither a default nor a message"
    name, operator, rest = match.groups()
    if env.get(name):
        return env[name]
    if operator == ":?":
        raise MissingError(name)
    return interpolate(rest, env)


def environment(service: str, env: dict[str, str] = FILLED) -> dict[str, str]:
    return {k: interpolate(str(v), env) for k, v in SERVICES[service].get("environment", {}).items()}


def published(service: str, env: dict[str, str] = FILLED) -> dict[int, tuple[str, int]]:
    """Port inside -> (address, port on the host)."""
    found = {}
    for port in SERVICES[service].get("ports", ()):
        address, outer, inner = interpolate(port, env).split(":")
        found[int(inner)] = (address, int(outer))
    return found


def asked_port(service: str) -> int:
    """The port of the URL in the health check."""
    [url] = re.findall(r"http://[^\s'\"]+", " ".join(SERVICES[service]["healthcheck"]["test"]))
    return urlsplit(url).port or 80


def test_compose_is_valid() -> None:
    jsonschema.validate(COMPOSE, _SCHEMA)


def test_references_stand() -> None:
    for name, service in SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            assert other in SERVICES, name
            if how["condition"] == "service_healthy":
                assert "test" in SERVICES[other]["healthcheck"], f"{name} waits for the health of {other}"
            if how["condition"] == "service_completed_successfully":
                assert other in ONE_SHOT
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert (DEPLOY / source).is_file() if source.startswith("./") else source in COMPOSE["volumes"], volume
        assert set(service.get("networks", ())) <= set(COMPOSE["networks"])


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_watched_and_restarted(name: str) -> None:
    service = SERVICES[name]
    if name in ONE_SHOT:
        assert service["restart"] == "no"
        return
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    assert service["logging"]["options"]["max-size"]


@pytest.mark.parametrize("name", ["redpanda", "timescaledb", "s3", "waha", "prometheus", "gateway", "ingress"])
def test_what_is_stored_is_on_a_named_volume(name: str) -> None:
    assert any(v.split(":")[0] in COMPOSE["volumes"] for v in SERVICES[name]["volumes"])


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned_by_version(name: str) -> None:
    image, _, tag = SERVICES[name]["image"].rpartition(":")
    assert image
    assert "latest" not in tag
    assert re.search(r"\d+\.\d+", tag), tag


def test_our_image_has_our_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert {s["image"] for s in WAPIPE.values()} == {f"wapipe:{version}"}


@pytest.mark.parametrize("name", registry())
def test_every_process_is_a_service_at_its_port(name: str) -> None:
    process, service = registry()[name], WAPIPE[name]
    assert service["command"] == ["run", name]
    assert asked_port(name) == process.port
    assert set(published(name)) <= {process.port}
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]


def test_no_service_runs_an_unknown_process() -> None:
    assert set(WAPIPE) == set(registry()) | {"migrate"}
    assert "wapipe migrate && wapipe topics apply" in SERVICES["migrate"]["entrypoint"][-1]
    for name in set(WAPIPE) - {"migrate"}:
        assert SERVICES[name]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"


@pytest.mark.parametrize("name", WAPIPE)
def test_every_environment_name_is_a_setting(name: str) -> None:
    known = {n for s in SETTINGS for n in s.names}
    env = environment(name)
    assert set(env) <= known
    settings = load_settings(env)
    assert settings.ingress.host == settings.consumer.metrics_host == "0.0.0.0"
    assert settings.api.port == registry()["gateway"].port == registry()["api"].port
    assert settings.ingress.port == registry()["ingress"].port
    assert settings.consumer.metrics_port is None
    grace = float(SERVICES[name]["stop_grace_period"].removesuffix("s"))
    assert grace > settings.consumer.shutdown_grace_s


@pytest.mark.parametrize("name", WAPIPE)
def test_services_find_each_other(name: str) -> None:
    env = environment(name)
    database = load_settings(env).database
    if "WHATSAPP_DB_HOST" in env:
        assert (database.host, database.pgbouncer_host) == ("timescaledb", "pgbouncer")
        assert (database.port, database.pgbouncer_port) == (5432, 5432)
        assert set(published("timescaledb")) == {database.port}
        assert set(published("pgbouncer")) == {database.pgbouncer_port}
    if "WAPIPE_KAFKA_BOOTSTRAP_SERVERS" in env:
        host, port = env["WAPIPE_KAFKA_BOOTSTRAP_SERVERS"].split(":")
        assert f"--advertise-kafka-addr=internal://{host}:{port}" in SERVICES["redpanda"]["command"]


def test_a_process_gets_the_secrets_it_needs_and_no_others() -> None:
    holders = {name: {s for s in SERVICES if name in SERVICES[s].get("environment", {})} for name in SECRETS}
    assert holders["WHATSAPP_GATEWAY_API_TOKEN"] == {"gateway", "api"}
    assert holders["WHATSAPP_HOOK_HMAC_KEY"] == {"gateway", "ingress", "waha"}
    assert holders["WHATSAPP_DB_PASSWORD"] == {
        "migrate",
        "gateway",
        "api",
        "messages",
        "contacts",
        "sessions",
        "media",
        "sync",
    }
    assert "WHATSAPP_DB_PASSWORD" not in SERVICES["ingress"]["environment"]


@pytest.mark.parametrize("name", ["gateway", "ingress"])
def test_the_spool_is_on_the_volume(name: str) -> None:
    [volume] = SERVICES[name]["volumes"]
    folder = load_settings(environment(name)).spool_folder
    assert folder.parent == Path(volume.split(":")[1])
    assert f'VOLUME ["{folder.parent}"]' in (DEPLOY / "Dockerfile").read_text()


def test_no_secret_is_literal_or_has_a_default() -> None:
    looks_secret = re.compile(r"PASSWORD|SECRET|TOKEN|KEY(S|_ID)?$")
    secret_names = {n for s in SETTINGS if s.secret for n in s.names}
    for service, settings in SERVICES.items():
        for name, value in settings.get("environment", {}).items():
            if name == "AWS_ACCESS_KEY_ID" or not (looks_secret.search(name) or name in secret_names):
                continue  # an access key id is a user's name
            assert re.fullmatch(r"\$\{\w+:(-|\?[^}]+|-\$\{\w+:\?[^}]+\})\}", str(value)), f"{service}: {name}"


@pytest.mark.parametrize("missing", SECRETS)
def test_a_missing_secret_stops_it_and_is_named(missing: str) -> None:
    with pytest.raises(MissingError, match=missing):
        assert [environment(service, FILLED | {missing: ""}) for service in SERVICES]


def test_the_example_has_every_variable_and_no_secret() -> None:
    used = set(re.findall(r"\$\{([A-Z0-9_]+)", (DEPLOY / "compose.yaml").read_text()))
    offered = set(re.findall(r"^(?:# )?([A-Z0-9_]+)=", EXAMPLE, re.MULTILINE))
    assert used <= offered
    assert offered - used <= {"COMPOSE_PROFILES"}
    for name, value in EXAMPLE_VALUES.items():
        if re.search(r"PASSWORD|TOKEN|KEY", name):
            assert value == "", name
    assert unknown_names(EXAMPLE_VALUES) == []
    load_settings({k: v for k, v in FILLED.items() if k not in FOREIGN_NAMES})


@pytest.mark.parametrize(
    ("service", "inside", "outside"),
    [("timescaledb", 5432, 5435), ("pgbouncer", 5432, 6435), ("s3", 8333, 9302), ("s3", 23646, 9303),
     ("waha", 3000, 3311), ("gateway", 4011, 4011), ("api", 4011, 4011)],
)  # fmt: skip
def test_the_known_ports_stay(service: str, inside: int, outside: int) -> None:
    for env in (FILLED, {name: FILLED[name] for name in SECRETS}):
        assert published(service, env)[inside] == ("127.0.0.1", outside)
    defaults = load_settings({})
    assert (defaults.database.port, defaults.s3.api_port, defaults.s3.console_port) == (5435, 9302, 9303)
    assert (defaults.waha.core_port, defaults.api.port) == (3311, 4011)


def test_nothing_listens_to_the_world() -> None:
    for service in SERVICES:
        assert {address for address, _ in published(service).values()} <= {"127.0.0.1"}
    assert SERVICES["s3"]["networks"] == SERVICES["s3-init"]["networks"] == ["storage"]


def test_waha_posts_signed_events_to_the_gateway() -> None:
    env = environment("waha")
    assert env["WHATSAPP_HOOK_URL"] == f"http://gateway:{registry()['gateway'].port}/webhook"
    assert env["WHATSAPP_HOOK_EVENTS"] == "*"
    assert env["WHATSAPP_HOOK_HMAC_KEY"] == environment("gateway")["WHATSAPP_HOOK_HMAC_KEY"]
    assert env["WHATSAPP_HOOK_RETRIES_POLICY"] == "exponential"


def test_the_split_replaces_the_gateway() -> None:
    assert SERVICES["ingress"]["profiles"] == SERVICES["api"]["profiles"] == ["split"]
    assert all("profiles" not in s for name, s in SERVICES.items() if name not in ("ingress", "api"))
    split = dict(re.findall(r"^# ([A-Z_]+)=(\S+)$", EXAMPLE, re.MULTILINE))
    assert split["COMPOSE_PROFILES"] == "split"
    assert interpolate(SERVICES["gateway"]["deploy"]["replicas"], split) == "0"
    assert interpolate(SERVICES["gateway"]["deploy"]["replicas"], {}) == "1"
    hook = urlsplit(environment("waha", FILLED | split)["WHATSAPP_HOOK_URL"])
    assert (hook.hostname, hook.port) == ("ingress", registry()["ingress"].port)
    assert not any("gateway" in s.get("depends_on", {}) for s in SERVICES.values())


def test_prometheus_scrapes_every_process() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    found = {
        name: sd["port"]
        for job in config["scrape_configs"]
        for sd in job.get("dns_sd_configs", ())
        for name in sd["names"]
        if sd["type"] == "A" and job["job_name"] == name
    }
    assert found == {name: process.port for name, process in registry().items()}
    for file in ("prometheus.yml", *config["rule_files"]):
        assert f"./prometheus/{file}:/etc/prometheus/{file}:ro" in SERVICES["prometheus"]["volumes"]
