"""Sharing as clients read and write it; who may is tested with the house."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import BOB
from vsmgate.grants import Grant, Right


def test_a_grant(face: Any) -> None:
    path = f"/v1/jobs/{face.job().id}/grants"
    made = face.ask("POST", path, {"group": "lab", "right": "control", "expires_in": 60})
    assert made.status == 201
    assert made.json == {
        "id": "g0",
        "right": "control",
        "subject": None,
        "group": "lab",
        "created_at": "1970-01-01T00:16:40Z",
        "expires_at": "1970-01-01T00:17:40Z",
        "invitation": None,
    }
    assert face.ask("GET", path).json == {"items": [made.json]}
    assert face.ask("DELETE", f"{path}/g0").status == 204
    again = face.ask("DELETE", f"{path}/g0")
    assert (again.status, again.json["code"]) == (404, "no_such_grant")
    assert face.ask("GET", path).json == {"items": []}


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"right": "view"}, "/subject"),
        ({"right": "view", "subject": "bob", "group": "lab"}, "/subject"),
        ({"right": "owner", "subject": "bob"}, "/right"),
        ({"subject": "bob"}, "/right"),
        ({"right": "view", "subject": ""}, "/subject"),
        ({"right": "view", "subject": "b\nob"}, "/subject"),
        ({"right": "view", "subject": "b" * 257}, "/subject"),
        ({"right": "view", "subject": "bob", "expires_in": 0}, "/expires_in"),
        ({"right": "view", "subject": "bob", "expires_in": 1e300}, "/expires_in"),
        ({"right": "view", "subject": "bob", "user": "bob"}, "/user"),
    ],
)
def test_a_grant_that_cannot_be(face: Any, body: Any, pointer: str) -> None:
    job = face.job()
    answer = face.ask("POST", f"/v1/jobs/{job.id}/grants", body)
    assert (answer.status, answer.json["code"]) == (422, "bad_parameters")
    assert [problem["pointer"] for problem in answer.json["errors"]] == [pointer]
    assert face.desk.jobs[job.id].grants == ()


def test_an_invitation_shows_its_secret_once(face: Any) -> None:
    path = f"/v1/jobs/{face.job().id}/invitations"
    made = face.ask("POST", path, {"right": "view", "uses": 3, "expires_in": 30})
    assert made.status == 201
    secret = made.json.pop("invitation")
    assert secret.endswith(".s3cret")
    listed = face.ask("GET", path)
    assert listed.json["items"][0]["redeemed"] == []
    assert "s3cret" not in listed.body.decode()
    answer = face.ask("POST", "/v1/invitations/redeem", {"invitation": secret}, token=BOB)
    assert (answer.status, answer.json["right"]) == (200, "view")
    assert face.ask("GET", path).json["items"][0]["redeemed"] == ["bob"]
    assert face.ask("DELETE", f"{path}/i0").status == 204
    gone = face.ask("POST", "/v1/invitations/redeem", {"invitation": secret}, token=BOB)
    assert (gone.status, gone.json["code"]) == (404, "no_such_invitation")
    assert secret not in gone.body.decode()


@pytest.mark.parametrize("body", [{"right": "view", "uses": 0}, {"right": "view", "uses": 101}])
def test_an_invitation_that_cannot_be(face: Any, body: Any) -> None:
    assert face.ask("POST", f"/v1/jobs/{face.job().id}/invitations", body).status == 422


def test_presence(face: Any) -> None:
    answer = face.ask("GET", f"/v1/jobs/{face.job().id}/presence")
    assert answer.json["items"] == [
        {
            "subject": "ann",
            "service": "renderer",
            "right": "owner",
            "since": "1970-01-01T00:16:40Z",
        }
    ]


def test_jobs_of_others_are_asked_for(face: Any) -> None:
    own = face.job()
    shared = face.job(owner="bob", grants=(Grant("g", Right.VIEW, 1.0, "ann"),))
    assert [job["id"] for job in face.ask("GET", "/v1/jobs").json["items"]] == [own.id]
    (found,) = face.ask("GET", "/v1/jobs?shared=true&state=ready&limit=7").json["items"]
    assert (found["id"], found["right"], found["engine_ref"]) == (shared.id, "view", None)
    assert face.desk.asked[-1] == ("shared", {"ready"}, None, 7, None)
    assert face.ask("GET", "/v1/jobs?shared=perhaps").status == 422
