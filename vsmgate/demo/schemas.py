"""JSON Schemas of the methods' parameters and results, and values checked against them."""

from __future__ import annotations

from typing import Any

from vsmgate.demo.jsonrpc import InvalidParams

__all__ = ["Schema", "array", "check", "choice", "number", "record", "text", "truth", "vector"]

Schema = dict[str, Any]


def record(title: str, required: tuple[str, ...] = (), /, **properties: Schema) -> Schema:
    """An object with these properties. Unknown ones are ignored, as Brayns does."""
    schema: Schema = {"type": "object", "title": title, "properties": properties}
    if required:
        schema["required"] = list(required)
    return schema


def number(description: str, kind: str = "number", **limits: Any) -> Schema:
    """A number, or an integer by ``kind``. Limits: ``minimum``, ``maximum``, ``default``."""
    return {"type": kind, "description": description, **limits}


def text(description: str, **limits: Any) -> Schema:
    """A string."""
    return {"type": "string", "description": description, **limits}


def truth(description: str, **limits: Any) -> Schema:
    """A boolean."""
    return {"type": "boolean", "description": description, **limits}


def choice(description: str, *values: str, **limits: Any) -> Schema:
    """One of some strings."""
    return {"type": "string", "description": description, "enum": list(values), **limits}


def vector(description: str, size: int, kind: str = "number", **limits: Any) -> Schema:
    """``size`` numbers. Limits other than ``default`` are those of each number."""
    outer = {"default": limits.pop("default")} if "default" in limits else {}
    items = {"type": kind, **limits}
    return {
        "type": "array",
        "description": description,
        "items": items,
        "minItems": size,
        "maxItems": size,
        **outer,
    }


def array(description: str, items: Schema) -> Schema:
    """Any number of items."""
    return {"type": "array", "description": description, "items": items}


def check(value: Any, schema: Schema) -> Any:
    """The value with its defaults filled in.

    Raises `InvalidParams`, whose ``data`` has one sentence for each thing that is wrong.
    """
    # Imported here: it costs a tenth of a second that the start-up need not pay.
    from jsonschema import Draft202012Validator

    errors = sorted(Draft202012Validator(schema).iter_errors(value), key=lambda e: e.json_path)
    if errors:
        problems = [f"{error.json_path}: {error.message}" for error in errors]
        raise InvalidParams("Invalid params schema", problems)
    return _filled(value, schema)


def _filled(value: Any, schema: Schema) -> Any:
    if schema.get("type") != "object":
        return value
    filled = dict(value)
    for name, inner in schema.get("properties", {}).items():
        if name in filled:
            filled[name] = _filled(filled[name], inner)
        elif "default" in inner:
            filled[name] = inner["default"]
    return filled
