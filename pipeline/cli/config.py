"""`wapipe config`: every setting with its source, a check that explains mistakes, and a .env with fresh secrets."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.errors import ConfigError
from pipeline.settings import (
    FOREIGN_NAMES,
    Settings,
    describe,
    load_settings,
    read_environment,
    require_secret,
    unknown_names,
)

out = Console(highlight=False)
config = typer.Typer(
    help="Settings: what they are, where they come from, what is wrong with them.", no_args_is_help=True
)


@config.command("show")
def show(
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """Show every setting with its value, where it came from and what it means. Secrets are masked.

    Examples:

      wapipe config show

      wapipe config show --json

    Exit codes: 0, or 78 when the settings cannot be read.
    """
    env = read_environment()
    rows = list(describe(load_settings(), env))
    if as_json:
        out.print_json(
            data=[
                {"name": r.names[0], "also": list(r.names[1:]), "value": r.value, "source": r.source,
                 "section": r.section, "description": r.description}
                for r in rows
            ]
        )  # fmt: skip
        return
    table = Table("name", "value", "source", "meaning")
    for r in rows:
        table.add_row(" | ".join(r.names), escape(r.value), r.source, escape(r.description))
    out.print(table)


@config.command("check")
def check() -> None:
    """Check the settings and explain mistakes: unknown names, values without sense, missing or well-known secrets.

    Example: wapipe config check

    Exit codes: 0 usable (there may be warnings), 78 not usable.
    """
    env = read_environment()
    for line in unknown_names(env):
        if line.startswith("WHATSAPP_"):
            out.print(f"[yellow]warning:[/] {escape(line)}", soft_wrap=True)
    for name in sorted(env.keys() & FOREIGN_NAMES.keys()):
        if "no Redis" in FOREIGN_NAMES[name]:
            out.print(f"[yellow]warning:[/] {name} has no effect: {FOREIGN_NAMES[name]}", soft_wrap=True)
    problems = _problems(load_settings())
    for line in problems:
        out.print(f"[red]error:[/] {escape(line)}", soft_wrap=True)
    if problems:
        raise typer.Exit(ConfigError.exit_code)
    out.print("the settings are usable")


def _problems(settings: Settings) -> list[str]:
    """One sentence for each secret without which a process exits 78."""
    found: list[str] = []
    ingress = settings.ingress
    if not (ingress.hmac_key or ingress.token or ingress.source_keys):
        found.append("neither WHATSAPP_HOOK_HMAC_KEY nor WHATSAPP_WEBHOOK_TOKEN is set: anybody could post events")
    wanted = [
        (settings.database.password, "WHATSAPP_DB_PASSWORD", "the database is reached with it"),
        (settings.api.token, "WHATSAPP_GATEWAY_API_TOKEN", "the API is guarded by it"),
    ]
    wanted += (
        [(ingress.hmac_key, "WHATSAPP_HOOK_HMAC_KEY", "webhooks are verified with it")] if ingress.hmac_key else []
    )
    wanted += [(ingress.token, "WHATSAPP_WEBHOOK_TOKEN", "webhooks are told apart by it")] if ingress.token else []
    wanted += [
        (key, f"WAPIPE_SOURCE_HMAC_KEYS[{source}]", "webhooks are verified with it")
        for source, key in ingress.source_keys.items()
    ]
    for value, name, why in wanted:
        try:
            require_secret(value, name, why)
        except ConfigError as exc:
            found.append(str(exc))
    return found


@config.command("init")
def init(
    path: Annotated[Path, typer.Option("--path", help="The file to write.")] = Path(".env"),
) -> None:
    """Write a .env with fresh random secrets. Never overwrites a file.

    Example: wapipe config init && wapipe up

    Exit codes: 0 written, 78 the file exists.
    """
    if path.exists():
        raise ConfigError(f"{path} exists; it is not overwritten. Use --path to write elsewhere")
    names = (
        "WHATSAPP_DB_PASSWORD", "WHATSAPP_HOOK_HMAC_KEY", "WHATSAPP_GATEWAY_API_TOKEN",
        "WHATSAPP_MINIO_ROOT_PASSWORD", "WHATSAPP_API_KEY",
    )  # fmt: skip
    lines = [f"{name}={secrets.token_urlsafe(32)}" for name in names]
    try:
        path.touch(mode=0o600)
    except OSError as exc:
        raise ConfigError(f"cannot write {path}: {exc.strerror}") from exc
    path.write_text("# written by `wapipe config init`; keep it private\n" + "\n".join(lines) + "\n", encoding="utf-8")
    out.print(f"wrote {path} with {len(names)} fresh secrets")
