"""Bodies into structs: fast when a body is what its struct says, forgiving when it is not.

A field of the wrong type reads as missing, and parts that a struct does not name are skipped without being built, which
is most of a body; the bytes themselves stay in the topic. NUL characters and lone surrogates go: PostgreSQL stores
neither.
"""

from __future__ import annotations

import json
from typing import Any, Generic, TypeVar

import msgspec
from msgspec.inspect import (
    AnyType,
    BoolType,
    DictType,
    Field,
    FloatType,
    IntType,
    ListType,
    NoneType,
    RawType,
    StrType,
    StructType,
    Type,
    UnionType,
    type_info,
)  # fmt: skip

T = TypeVar("T", bound=msgspec.Struct)

_MISFIT: Any = object()
_PLAIN: dict[type[Type], tuple[type, ...]] = {
    StrType: (str,), BoolType: (bool,), IntType: (int,), FloatType: (float, int), NoneType: (type(None),),
    ListType: (list,), DictType: (dict,),
}  # fmt: skip


class UnreadableError(ValueError):
    """The body is not an event; `reason` is a slug of a closed set: not_json | not_an_object | no_event | no_session."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Reader(Generic[T]):
    """Reads JSON objects as `model`, a struct whose fields all have defaults."""

    def __init__(self, model: type[T]) -> None:
        self._decode = msgspec.json.Decoder(model).decode
        self._shape = type_info(model)

    def __call__(self, body: bytes) -> T:
        """Raises UnreadableError when the body is not a JSON object.

        JavaScript writes lone surrogates (`\\ud83d`) and, asked to, NaN; the fast decoder refuses both and wrong types,
        so the standard library reads those.
        """
        if b"\\" not in body or b"\\u0000" not in body:  # one character is found much faster than six
            try:
                return self._decode(body)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                pass
        return self._read_leniently(body)

    def _read_leniently(self, body: bytes) -> T:
        try:
            value = scrub(json.loads(body.decode("utf-8")))
            if type(value) is not dict:
                raise UnreadableError("not_an_object")
            return self._decode(msgspec.json.encode(_fit(value, self._shape)))
        except UnreadableError:
            raise
        except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
            raise UnreadableError("not_json") from None


def scrub(value: Any) -> Any:
    """`value` without NUL characters and lone surrogates, in keys as well."""
    if type(value) is str:
        return value.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")
    if type(value) is dict:
        return {scrub(k): scrub(v) for k, v in value.items()}
    if type(value) is list:
        return [scrub(v) for v in value]
    return value


def _fit(value: Any, shape: Type) -> Any:
    """`value` without the fields that do not have the shape's type; _MISFIT when it is of another type itself."""
    if isinstance(shape, AnyType | RawType):
        return value
    if isinstance(shape, UnionType):
        return next((v for v in (_fit(value, t) for t in shape.types) if v is not _MISFIT), _MISFIT)
    if isinstance(shape, StructType):
        return _fit_fields(value, shape.fields) if type(value) is dict else _MISFIT
    return value if type(value) in _PLAIN[type(shape)] else _MISFIT


def _fit_fields(value: dict[str, Any], fields: tuple[Field, ...]) -> dict[str, Any]:
    fitted = {f.encode_name: _fit(value[f.encode_name], f.type) for f in fields if f.encode_name in value}
    return {name: v for name, v in fitted.items() if v is not _MISFIT}
