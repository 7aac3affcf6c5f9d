"""The description: valid, complete, and what the face really does."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from vsmgate.grants import Grant, Invitation, Right
from vsmgate.model import Job, Secret, new_job_id


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
    "/v1/jobs/{job_id}/grants": {"subject": "bob", "right": "control"},
    "/v1/jobs/{job_id}/invitations": {"right": "view"},
    "/v1/admin/revocations": {"subject": "eve"},
}
PLACES = {"name": "demo", "grant_id": "g7", "invitation_id": "i7"}


def shared_job(face: Any) -> tuple[Job, Secret]:
    """Put a job of Ann's that is shared; return it and what lets others in."""
    job_id = new_job_id()
    secret = Secret(f"{job_id}.s3cret")
    grant = Grant(PLACES["grant_id"], Right.VIEW, 1.0, group="staff", expires_at=3e9)
    invitation = Invitation(
        PLACES["invitation_id"], secret.digest(), Right.VIEW, 1.0, 3e9, 2, ("eve",)
    )
    return face.job(id=job_id, grants=(grant,), invitations=(invitation,)), secret


@pytest.mark.parametrize("token", ["ann-token", None])
def test_every_route_answers_as_described(face: Any, spec: Any, token: str | None) -> None:
    for path, method, operation in operations(spec):
        if path.endswith("/events"):
            job, secret = face.ended(), Secret("")  # or it would go on
        else:
            job, secret = shared_job(face)
        target = path.format(job_id=job.id, **PLACES)
        if (path, method) == ("/v1/admin/revocations", "DELETE"):
            target += "?subject=eve"
        body = BODIES.get(path) if method == "POST" else None
        if path == "/v1/invitations/redeem":
            body = {"invitation": secret.reveal()}
        if body is not None:
            check(spec, operation["requestBody"]["content"]["application/json"]["schema"], body)
        answer = face.ask(method, target, body, token=token)
        expected = operation["responses"][str(answer.status)]
        assert (answer.status < 300) is (token is not None or operation.get("security") == [])
        if "content" not in expected:
            assert answer.body == b""
            continue
        media_type = answer.headers["Content-Type"].partition(";")[0]
        described = expected["content"][media_type]["schema"]
        if media_type.endswith("json"):
            check(spec, described, json.loads(answer.body))
