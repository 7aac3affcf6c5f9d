"""``/openapi.json``: the routes' own table and types, as OpenAPI 3.1."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

import msgspec

from vsmgate import __version__
from vsmgate.api.call import Call
from vsmgate.api.problem import CONTENT_TYPE, ProblemDetails
from vsmgate.api.reply import Reply
from vsmgate.api.route import Route
from vsmgate.errors import (
    AuthenticatorUnavailable,
    GatewayError,
    QuotaExceeded,
    StoreUnavailable,
    TooManyFailures,
    Unauthenticated,
)

__all__ = ["document", "openapi_route"]

_REF = "#/components/schemas/{name}"
_PROBLEM = CONTENT_TYPE.decode("ascii")
#: What every call with a token may fail with.
_EVERYWHERE = (
    Unauthenticated, TooManyFailures, QuotaExceeded,
    AuthenticatorUnavailable, StoreUnavailable,
)  # fmt: skip
_JOB_ID = {"type": "string", "pattern": "^[A-Za-z2-7]{26}$"}


def openapi_route(routes: Iterable[Route]) -> Route:
    """Return the route that describes ``routes`` and itself."""
    body = b""

    async def answer(call: Call) -> Reply:
        return Reply(200, body)

    own = Route(
        "GET", "/openapi.json", answer, "This document", {200: "application/json"}, open=True
    )
    body = msgspec.json.encode(document((*routes, own)))
    return own


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """Return the description of ``routes``."""
    routes = tuple(routes)
    types: set[type] = {ProblemDetails}
    for route in routes:
        types |= {kind for kind in route.replies.values() if isinstance(kind, type)}
        types |= {kind for kind in (route.body, route.query) if kind is not None}
    ordered = sorted(types, key=lambda kind: kind.__name__)
    _, schemas = msgspec.json.schema_components(ordered, ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    for route in routes:
        if route.query is not None:
            schemas.pop(route.query.__name__, None)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "vsmgate",
            "version": __version__,
            "description": (
                "Starts jobs for interactive visualisation and relays their WebSockets. "
                "Errors are RFC 9457 documents with a stable code."
            ),
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"bearer": []}],
    }


def _operation(route: Route, schemas: Mapping[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": f"{route.method.lower()}{re.sub(r'[^A-Za-z0-9]+', '_', route.path)}",
        "summary": route.summary,
        "parameters": _parameters(route, schemas),
        "responses": {**_replies(route), **_refusals(route)},
    }
    if route.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _ref(route.body)}},
        }
    if route.open:
        operation["security"] = []
    return operation


def _parameters(route: Route, schemas: Mapping[str, Any]) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": _JOB_ID if name == "job_id" else {"type": "string"},
        }
        for name in re.findall(r"{(\w+)}", route.path)
    ]
    if route.query is not None:
        schema = schemas[route.query.__name__]
        for name, kind in schema["properties"].items():
            parameters.append(
                {
                    "name": name,
                    "in": "query",
                    "required": name in schema["required"],
                    "schema": kind,
                }
            )
    headers = ["X-Request-Id"]
    if route.path in ("/start", "/v1/jobs") and route.method == "POST":
        headers.append("Idempotency-Key")
    if "text/event-stream" in route.replies.values():
        headers.append("Last-Event-ID")
    parameters += ({"name": name, "in": "header", "schema": {"type": "string"}} for name in headers)
    return parameters


def _replies(route: Route) -> dict[str, Any]:
    replies = {}
    for status, kind in route.replies.items():
        reply: dict[str, Any] = {"description": HTTPStatus(status).phrase}
        if isinstance(kind, str):
            reply["content"] = {kind.partition(";")[0]: {"schema": _document(kind)}}
        elif kind is not None:
            reply["content"] = {"application/json": {"schema": _ref(kind)}}
        replies[str(status)] = reply
    return replies


def _refusals(route: Route) -> dict[str, Any]:
    """Return the errors by status; several codes can share one."""
    by_status: dict[int, list[type[GatewayError]]] = {}
    for kind in dict.fromkeys((*(() if route.open else _EVERYWHERE), *route.refusals)):
        status = route.statuses.get(kind, kind.status)
        by_status.setdefault(status, []).append(kind)
    by_status.setdefault(500, []).append(GatewayError)
    return {
        str(status): {
            "description": "; ".join(f"{kind.code}: {kind.title}" for kind in kinds),
            "content": {_PROBLEM: {"schema": _ref(ProblemDetails)}},
        }
        for status, kinds in sorted(by_status.items())
    }


def _document(media_type: str) -> dict[str, str]:
    if media_type == "text/event-stream":
        return {}  # OpenAPI 3.1 has no words for one event
    return {"type": "object" if media_type == "application/json" else "string"}


def _ref(kind: type) -> dict[str, str]:
    return {"$ref": _REF.format(name=kind.__name__)}
