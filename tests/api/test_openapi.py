"""The description: valid, complete, and what the face really does."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator


@pytest.fixture
def spec(face: Any) -> Any:
    """Return the served document."""
    answer = face.ask("GET", "/openapi.json", token=None)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    return answer.json


def operations(spec: Any) -> list[tuple[str, str, Any]]:
    return [
        (path, method.upper(), operation)
        for path, methods in spec["paths"].items()
        for method, operation in methods.items()
    ]


def test_it_is_valid(spec: Any) -> None:
    OpenAPIV31SpecValidator(spec).validate()


def test_it_has_every_route(face: Any, spec: Any) -> None:
    served = {(route.path, route.method) for route in face.service.site.routes.all}
    assert {(path, method) for path, method, _ in operations(spec)} == served
    assert ("/openapi.json", "GET") in served


def test_errors_and_parameters(spec: Any) -> None:
    start = spec["paths"]["/v1/jobs"]["post"]
    assert {"202", "400", "401", "403", "413", "415", "422", "429", "500", "503"} == set(
        start["responses"]
    )
    listed = spec["paths"]["/v1/jobs"]["get"]["parameters"]
    limit = next(parameter for parameter in listed if parameter["name"] == "limit")
    assert (limit["in"], limit["schema"]["maximum"]) == ("query", 200)
    body = spec["components"]["schemas"]["StartJob"]
    assert (body["required"], body["additionalProperties"]) == (["usecase"], False)
    assert spec["paths"]["/healthz"]["get"]["security"] == []


def check(spec: Any, schema: Any, value: Any) -> None:
    Draft202012Validator({**schema, "components": spec["components"]}).validate(value)


BODIES = {
    "/start": {"usecase": "demo"},
    "/v1/jobs": {"usecase": "demo"},
    "/v1/jobs/{job_id}/extend": {"seconds": 5},
    "/v1/jobs/{job_id}/tickets": {"service": "renderer"},
}


@pytest.mark.parametrize("token", ["ann-token", None])
def test_every_route_answers_as_described(face: Any, spec: Any, token: str | None) -> None:
    for path, method, operation in operations(spec):
        job = face.ended() if path.endswith("/events") else face.job()  # or it would go on
        target = path.replace("{job_id}", job.id).replace("{name}", "demo")
        assert not re.search("[{}]", target)
        body = BODIES.get(path) if method == "POST" else None
        if body is not None:
            check(spec, operation["requestBody"]["content"]["application/json"]["schema"], body)
        answer = face.ask(method, target, body, token=token)
        expected = operation["responses"][str(answer.status)]
        assert (answer.status < 300) is (token is not None or operation.get("security") == [])
        media_type = answer.headers["Content-Type"].partition(";")[0]
        described = expected["content"][media_type]["schema"]
        if media_type.endswith("json"):
            check(spec, described, json.loads(answer.body))
