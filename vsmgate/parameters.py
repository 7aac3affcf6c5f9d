"""A use case's parameters: a JSON Schema, and values checked against it.

Pure. The schema is JSON Schema 2020-12 of an object, checked by the jsonschema library
with nothing fetched from anywhere. `vsmgate.templates` puts the values into commands.
"""

from __future__ import annotations

import copy
import difflib
import json
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from vsmgate.errors import BadParameters, Problem

__all__ = ["LARGEST", "check_schema", "complete", "unfit_text"]

#: The largest set of parameters, in octets of JSON.
LARGEST = 65536

_MOST_PROBLEMS = 20
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
#: No retrieval: a schema may refer to its own parts only.
_NOTHING: Registry[Any] = Registry()
#: Keywords whose contents are values, not schemas.
_VALUES = frozenset({"const", "default", "enum", "examples"})


def complete(schema: Mapping[str, Any], parameters: object) -> dict[str, Any]:
    """Return ``parameters`` with the schema's defaults filled in.

    A key that the schema does not name is refused, unless the schema has
    ``additionalProperties`` (or ``unevaluatedProperties``). Text with a line break or a
    NUL in it is refused wherever it is. Raises `BadParameters` with every problem; their
    pointers are JSON Pointers (RFC 6901) into ``parameters``.
    """
    if not isinstance(parameters, dict):
        raise _refused([Problem("", "the parameters must be an object")])
    try:
        if len(json.dumps(parameters)) > LARGEST:
            raise _refused([Problem("", f"larger than {LARGEST} octets")])
        filled: dict[str, Any] = _filled(schema, copy.deepcopy(parameters))
        problems = list(_bad_values(filled, ""))
        if problems:
            raise _refused(problems)
        validator = Draft202012Validator(_closed(schema, top=True), registry=_NOTHING)
        every = (p for error in validator.iter_errors(filled) for p in _problems(error))
        problems = list(islice(every, _MOST_PROBLEMS))  # there may be thousands
    except RecursionError:
        raise _refused([Problem("", "nested too deeply")]) from None
    if problems:
        raise _refused(sorted(dict.fromkeys(problems), key=lambda p: p.pointer))
    return filled


def check_schema(schema: object) -> list[str]:
    """Return what is wrong with a use case's schema, a sentence each."""
    if not isinstance(schema, Mapping):
        return ["must be a table (a JSON Schema of an object)"]
    meta = Draft202012Validator(Draft202012Validator.META_SCHEMA)
    wrong = [f"{e.json_path}: {_short(e.message)}" for e in meta.iter_errors(dict(schema))]
    if schema.get("$schema", _DIALECT).rstrip("#") != _DIALECT:
        wrong.append(f"$.$schema: only {_DIALECT} is known")
    if schema.get("type", "object") != "object":
        wrong.append('$.type: must be "object"')
    if wrong:
        return wrong
    wrong.extend(_bad_patterns_and_references(schema))
    return wrong or list(_bad_defaults(schema))


def unfit_text(text: str) -> str:
    """Return why ``text`` cannot be one argv element or line, or nothing."""
    if "\0" in text:
        return "must not contain a NUL"
    if "\n" in text or "\r" in text:
        return "must not contain a line break"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "must be valid Unicode (it has half of a surrogate pair)"
    return ""


def _refused(problems: list[Problem]) -> BadParameters:
    first = problems[0]
    detail = f"{first.pointer}: {first.detail}" if first.pointer else first.detail
    if len(problems) > 1:
        detail = f"{detail} (and {len(problems) - 1} more)"
    return BadParameters(f"Bad parameters: {detail}.", problems=problems[:_MOST_PROBLEMS])


def _bad_values(value: object, pointer: str) -> Iterator[Problem]:
    """Yield values that no schema makes good."""
    if isinstance(value, str):
        if why := unfit_text(value):
            yield Problem(pointer, why)
    elif isinstance(value, float) and (value != value or value in (float("inf"), -float("inf"))):
        yield Problem(pointer, "must be a finite number")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _bad_values(item, f"{pointer}/{index}")
    elif isinstance(value, dict):
        for key, item in value.items():
            if why := unfit_text(key):
                yield Problem(pointer, f"a name {why}")
            else:
                yield from _bad_values(item, _below(pointer, key))


def _filled(schema: Any, value: Any) -> Any:
    """Fill the defaults into ``value``, which is changed; whole numbers become integers."""
    if not isinstance(schema, Mapping):
        return value
    if isinstance(value, dict):
        for name, part in schema.get("properties", {}).items():
            if name in value:
                value[name] = _filled(part, value[name])
            elif isinstance(part, Mapping) and "default" in part:
                value[name] = _filled(part, copy.deepcopy(part["default"]))
    elif isinstance(value, list):
        value[:] = [_filled(schema.get("items"), item) for item in value]
    elif isinstance(value, float) and schema.get("type") == "integer" and value.is_integer():
        return int(value)  # 5.0 is an integer in JSON Schema, but not to most programs
    return value


def _closed(schema: Any, *, top: bool = False) -> Any:
    """Return a copy in which objects take no other keys, where the schema does not say."""
    if not isinstance(schema, Mapping):
        return schema
    closed = dict(schema)
    if "items" in closed:
        closed["items"] = _closed(closed["items"])
    if "properties" in closed:
        closed["properties"] = {n: _closed(part) for n, part in closed["properties"].items()}
    if top or "properties" in closed:
        if top:
            closed.setdefault("type", "object")
        if "additionalProperties" not in closed:
            # Unlike additionalProperties this knows what allOf, $ref and the like allow.
            closed.setdefault("unevaluatedProperties", False)
    return closed


def _problems(error: ValidationError) -> Iterator[Problem]:
    """Yield what one error of jsonschema means, at the keys that it is about."""
    pointer = ""
    for part in error.absolute_path:
        pointer = _below(pointer, str(part))
    instance: Any = error.instance
    if error.validator == "required":
        required: Any = error.validator_value
        missing = [name for name in required if name not in instance]
        yield from (Problem(_below(pointer, name), "is required") for name in missing)
        return
    if error.validator in ("additionalProperties", "unevaluatedProperties"):
        schema: Any = error.schema
        known = list(schema.get("properties", ()))
        found = False
        for name in instance:
            if name not in known and f"{name!r}" in error.message:
                found = True
                yield Problem(_below(pointer, name), f"unknown parameter; {_suggest(name, known)}")
        if found:
            return
    yield Problem(pointer, _short(error.message))


def _suggest(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(known)) or 'none'}"


def _bad_patterns_and_references(schema: Mapping[str, Any]) -> Iterator[str]:
    resolver = _NOTHING.resolver_with_root(DRAFT202012.create_resource(schema))
    for keyword, value in _keywords(schema):
        if keyword in ("pattern", "patternProperties"):
            for pattern in [value] if isinstance(value, str) else value:
                try:
                    re.compile(pattern)
                except (re.error, TypeError) as error:
                    yield f"the {keyword} {pattern!r} is no regular expression: {error}"
        elif keyword in ("$ref", "$dynamicRef"):
            try:
                resolver.lookup(value)
            except Unresolvable:
                yield f"the {keyword} {value!r} leads nowhere; a schema may only refer to itself"


def _keywords(schema: Any) -> Iterator[tuple[str, Any]]:
    """Yield the keywords of a schema and of the schemas inside of it."""
    if isinstance(schema, list):
        for item in schema:
            yield from _keywords(item)
    if not isinstance(schema, Mapping):
        return
    for keyword, value in schema.items():
        if keyword in ("properties", "patternProperties", "$defs", "dependentSchemas"):
            if keyword == "patternProperties":
                yield keyword, list(value)
            for part in value.values():
                yield from _keywords(part)
        elif keyword not in _VALUES:
            yield keyword, value
            yield from _keywords(value)


def _bad_defaults(schema: Mapping[str, Any]) -> Iterator[str]:
    """Yield the defaults that the schema itself, or a command line, would refuse."""
    for name, part in schema.get("properties", {}).items():
        if not isinstance(part, Mapping) or "default" not in part:
            continue
        alone = {**schema, "required": [], "properties": {name: part}}
        try:
            complete(alone, {})
        except BadParameters as error:
            told = "; ".join(p.detail for p in error.problems if p.pointer.startswith(f"/{name}"))
            if told:
                yield f"the default of {name} does not fit: {told}"


def _below(pointer: str, part: str) -> str:
    return f"{pointer}/{part.replace('~', '~0').replace('/', '~1')}"


def _short(message: str) -> str:
    return message if len(message) <= 200 else f"{message[:197]}..."
