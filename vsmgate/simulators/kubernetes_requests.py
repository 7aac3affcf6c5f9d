"""Requests to a simulated API server, and answers, as its protocol has them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from twisted.web.server import Request

from vsmgate.simulators.kubernetes_objects import ApiError

__all__ = ["body_of", "check_change", "json_of", "part_of", "query_of", "reply"]

Object = dict[str, Any]


def check_change(old: Object, new: Object) -> None:
    """A pod's deadline can only become shorter."""
    before, after = (one.get("spec", {}).get("activeDeadlineSeconds") for one in (old, new))
    if before is not None and (after is None or after > before):
        field = "spec.activeDeadlineSeconds"
        told = f"Invalid value: {after}: must be less than or equal to previous value"
        name = old["metadata"]["name"]
        cause = {"reason": "FieldValueInvalid", "message": told, "field": field}
        details = {"name": name, "kind": "Pod", "causes": [cause]}
        raise ApiError(422, f'Pod "{name}" is invalid: {field}: {told}', details)


def query_of(request: Request) -> dict[str, str]:
    """Return the query's parameters; of several of one name the last."""
    return {key.decode(): values[-1].decode() for key, values in (request.args or {}).items()}


def json_of(request: Request, otherwise: Any = None) -> Any:
    """Return the body as JSON, ``otherwise`` where there is none; raises `ApiError`."""
    data = request.content.read() if request.content else b""
    if not data.strip() and otherwise is not None:
        return otherwise
    try:
        return json.loads(data)
    except ValueError as error:
        raise ApiError(400, f"the object provided is unrecognized: {error}") from None


def body_of(request: Request, kind: str) -> Object:
    """Return the body, an object of that kind; raises `ApiError`."""
    given = json_of(request)
    if not isinstance(given, dict):
        told = f"the object provided is unrecognized (must be of type {kind}): "
        raise ApiError(400, f"{told}couldn't get version/kind")
    if given.get("kind", kind) != kind:
        told = f'{given["kind"]} in version "v1" cannot be handled as a {kind}: '
        raise ApiError(400, f'{told}no kind "{given["kind"]}" is registered for version "v1"')
    return given


def part_of(log: bytes, query: Mapping[str, str]) -> bytes:
    """Return what of a log is asked for: the last lines, and of them the first octets."""
    if "tailLines" in query:
        lines = log.splitlines(keepends=True)
        log = b"".join(lines[max(0, len(lines) - int(query["tailLines"])) :])
    return log[: int(query.get("limitBytes") or len(log))]


def reply(request: Request, body: object, code: int = 200) -> bytes:
    """Set status and type; return the answer's octets."""
    request.setResponseCode(code)
    if isinstance(body, str):
        request.setHeader(b"Content-Type", b"text/plain; charset=utf-8")
        return body.encode()
    request.setHeader(b"Content-Type", b"application/json")
    return json.dumps(body).encode()
