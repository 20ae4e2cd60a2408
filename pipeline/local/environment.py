"""Settings as an environment: what a child of the stack must see so that it reads the very same settings.

Every name of every setting is written, an unset one as the empty string, so that no `.env` on the way can add
to it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import AliasChoices, SecretStr

from pipeline.settings import Settings


def to_environment(settings: Settings) -> dict[str, str]:
    """Name to value, such that `load_settings` of it gives `settings` again."""
    out: dict[str, str] = {}
    for section_name in type(settings).model_fields:
        section = getattr(settings, section_name)
        for field, info in type(section).model_fields.items():
            assert isinstance(info.validation_alias, AliasChoices)
            first, *others = (str(name) for name in info.validation_alias.choices)
            out |= dict.fromkeys(others, "")
            out[first] = _text(getattr(section, field))
    return out


def without_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` without what wapipe's settings are made of: for servers, which need none of our secrets."""
    return {k: v for k, v in environ.items() if not k.startswith(_OURS)}


_OURS = ("WAPIPE_", "WHATSAPP_", "POSTGRES_", "JWT_", "PG")


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, dict):
        return json.dumps(dict(_plain(value))) if value else ""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def _plain(value: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, item in value.items():
        yield key, _text(item)
