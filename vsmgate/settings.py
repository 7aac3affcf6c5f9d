"""Typed values out of TOML, with every error found at once.

`msgspec` stops at the first error and speaks of its own types. `read` walks the type
and the table together instead, and names for each error the dotted key, the value
(never that of a secret) and what is allowed. An unknown key is always an error,
whether the type forbids it or not: in a configuration it is a slip of the pen.
"""

from __future__ import annotations

import difflib
import json
import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import Struct, inspect

from vsmgate.errors import ConfigError, Problem

__all__ = [
    "inline_secrets",
    "join_key",
    "looks_secret",
    "parse_toml",
    "read",
    "read_toml",
    "suggest",
]

T = TypeVar("T")

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_SECRET_KEY = re.compile(
    r"(^|[_-])(password|passwd|passphrase|secret|token|credential|(api|access|private)[_-]?key)s?$",
    re.ASCII | re.IGNORECASE,
)
_URL_PASSWORD = re.compile(r"://[^/@\s]*:[^/@\s]+@")
_INDEXES = re.compile(r"(\[\d+\])+$")
_PLACE = re.compile(r"\s*\(at (line \d+, column \d+|end of document)\)$")
_LARGEST_FILE = 16 * 1024 * 1024


def read_toml(path: Path) -> dict[str, Any]:
    """Return the table in the file ``path``; `ConfigError` says why it cannot be read."""
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(str(path), [Problem("", f"cannot be read: {reason}")]) from None
    if len(data) > _LARGEST_FILE:
        problem = Problem("", f"is too large: at most {_LARGEST_FILE} octets are read")
        raise ConfigError(str(path), [problem])
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        detail = "is not UTF-8 text; save the file in that encoding"
        raise ConfigError(str(path), [Problem(f"line {line}", detail)]) from None
    return parse_toml(text, str(path))


def parse_toml(text: str, source: str) -> dict[str, Any]:
    """Return the table in ``text``; a `ConfigError` of ``source`` gives line and column."""
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        sentence = str(error) or "nested too deeply"
        place = _PLACE.search(sentence)
        pointer = place.group(1) if place else ""
        detail = f"is not TOML: {_PLACE.sub('', sentence)}"
        raise ConfigError(source, [Problem(pointer, detail)]) from None


def read(kind: type[T], table: object, *, source: str, where: str = "") -> T:
    """Return ``table`` as a ``kind``, usually a `msgspec.Struct` type.

    ``where`` is the dotted key of ``table`` in ``source``. Raises `ConfigError` with
    every problem.
    """
    problems = list(_problems(kind, table, where))
    if problems:
        raise ConfigError(source, problems)
    return msgspec.convert(table, kind)


def join_key(where: str, key: object) -> str:
    """Return the dotted key of ``key`` in the table ``where``, quoted where TOML needs it."""
    text = str(key)
    part = text if _BARE_KEY.fullmatch(text) else json.dumps(text, ensure_ascii=False)
    return f"{where}.{part}" if where else part


def looks_secret(where: str, value: object = None) -> bool:
    """Return whether the value at the dotted key ``where`` must not be shown.

    Its last key may say so, and a URL may have a password in it.
    """
    if _SECRET_KEY.search(_last_key(where)):
        return True
    return isinstance(value, str) and _URL_PASSWORD.search(value) is not None


def inline_secrets(value: object, where: str) -> Iterator[Problem]:
    """Yield the secrets that stand in a table themselves, instead of where to find them."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from inline_secrets(item, join_key(where, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from inline_secrets(item, f"{where}[{index}]")
    elif isinstance(value, str) and looks_secret(where, value):
        key = _last_key(where)
        detail = f"a secret must not stand here; use {key}_file (a path) or {key}_env (a name)"
        yield Problem(where, detail)


def suggest(word: str, known: list[str]) -> str:
    """Return a sentence's end for an unknown ``word``: the nearest known one, or all."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known: {', '.join(sorted(known)) or 'none'}"


def _problems(kind: Any, value: object, where: str) -> Iterator[Problem]:
    """Yield what keeps ``value`` from being a ``kind``; parts first, then the whole."""
    found = False
    for problem in _problems_of_parts(kind, value, where):
        found = True
        yield problem
    if found:
        return
    if isinstance(value, float) and not math.isfinite(value):
        yield _refused(kind, value, where)
        return
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        if isinstance(value, Mapping) and _is_struct(kind):
            # Every field is right by itself: this is the type's own check of the whole.
            yield Problem(where, str(error).partition(" - at `$")[0])
        else:
            yield _refused(kind, value, where)


def _problems_of_parts(kind: Any, value: object, where: str) -> Iterator[Problem]:
    """Yield the problems inside of a table or a list; none for anything else."""
    kind = _member_for(kind, value)
    arguments = get_args(kind)
    if isinstance(value, Mapping):
        if _is_struct(kind):
            yield from _problems_of_fields(kind, value, where)
        elif get_origin(kind) is dict:
            for key, item in value.items():
                at = join_key(where, key)
                try:
                    msgspec.convert(key, arguments[0])
                except msgspec.ValidationError:
                    yield Problem(at, f"is no good name here: {_allowed(arguments[0])}")
                yield from _problems(arguments[1], item, at)
    elif isinstance(value, list) and get_origin(kind) in (tuple, list):
        endless = get_origin(kind) is list or arguments[-1] is Ellipsis
        for index, item in enumerate(value):
            if endless or index < len(arguments):
                yield from _problems(arguments[0 if endless else index], item, f"{where}[{index}]")


def _problems_of_fields(
    kind: type[Struct], table: Mapping[str, object], where: str
) -> Iterator[Problem]:
    """Yield unknown and missing keys, and the problems of each field."""
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    for key in table:
        if key not in fields:
            yield Problem(join_key(where, key), f"unknown key; {suggest(key, list(fields))}")
    for key, field in fields.items():
        at = join_key(where, key)
        if key in table:
            yield from _problems(field.type, table[key], at)
        elif field.required:
            yield Problem(at, f"is required: {_allowed(field.type)}")


def _member_for(kind: Any, value: object) -> Any:
    """Return ``kind`` without `Annotated`, and of a union the member that ``value`` means."""
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) not in (Union, UnionType):
        return kind
    for member in get_args(kind):
        plain = _member_for(member, value)
        if isinstance(value, Mapping) and (_is_struct(plain) or get_origin(plain) is dict):
            return plain
        if isinstance(value, list) and get_origin(plain) in (tuple, list):
            return plain
    return kind


def _last_key(where: str) -> str:
    return _INDEXES.sub("", where).rpartition(".")[2].rstrip('"')


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Struct)


def _refused(kind: Any, value: object, where: str) -> Problem:
    shown = json.dumps(value, ensure_ascii=False, default=str)
    if looks_secret(where, shown):
        shown = "this value (not shown)"
    elif isinstance(value, dict):
        shown = "a table"
    elif len(shown) > 80:
        shown = f"{shown[:77]}..."
    return Problem(where, f"{shown} is not allowed: {_allowed(kind)}")


def _allowed(kind: Any) -> str:
    """Return what a value of ``kind`` may be, as the end of a sentence."""
    return f"expected {_described(inspect.type_info(kind))}"


def _described(kind: inspect.Type) -> str:
    match kind:
        case inspect.Metadata(type=inner, extra_json_schema=extra):
            return str((extra or {}).get("description") or _described(inner))
        case inspect.UnionType(types=types):
            named = [_described(t) for t in types if not isinstance(t, inspect.NoneType)]
            return " or ".join(named)
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType() | inspect.FloatType():
            noun = "a whole number" if isinstance(kind, inspect.IntType) else "a number"
            return noun + _range(kind)
        case inspect.StrType(pattern=pattern, min_length=shortest):
            matching = f" that matches {pattern}" if pattern else ""
            return ("a non-empty string" if shortest else "a string") + matching
        case inspect.LiteralType(values=values):
            return " or ".join(json.dumps(v) for v in values)
        case inspect.EnumType(cls=cls):
            return " or ".join(json.dumps(member.value) for member in cls)
        case inspect.VarTupleType(item_type=item) | inspect.ListType(item_type=item):
            return f"a list, each item {_described(item)}"
        case inspect.StructType() | inspect.DictType():
            return "a table"
        case inspect.DateTimeType():
            return "a date and time with offset, such as 2027-01-01T00:00:00Z"
        case _:
            return type(kind).__name__.removesuffix("Type").lower()


def _range(kind: inspect.IntType | inspect.FloatType) -> str:
    if kind.ge is not None and kind.le is not None:
        return f" from {kind.ge} to {kind.le}"
    bounds = (
        (kind.gt, "greater than"),
        (kind.ge, "of at least"),
        (kind.lt, "less than"),
        (kind.le, "of at most"),
    )
    return "".join(f" {words} {bound}" for bound, words in bounds if bound is not None)
