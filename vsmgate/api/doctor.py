"""``GET /v1/jobs/{id}/doctor``: why a job's services are out of reach."""

from __future__ import annotations

from vsmgate.api.call import Call
from vsmgate.api.desk import Desk
from vsmgate.api.reply import Reply, json_reply
from vsmgate.api.route import Route
from vsmgate.diagnosis import Diagnosis
from vsmgate.errors import (
    AuthenticatorUnavailable,
    NoSuchJob,
    StoreUnavailable,
    Unauthenticated,
)

__all__ = ["doctor_route"]


def doctor_route(desk: Desk) -> Route:
    """Return the route."""

    async def diagnose(call: Call) -> Reply:
        return json_reply(200, await desk.diagnose(call.identity, call.job_id()))

    return Route(
        "GET",
        "/v1/jobs/{job_id}/doctor",
        diagnose,
        "At which step a job's services are out of reach, and what usually helps",
        {200: Diagnosis},
        (Unauthenticated, AuthenticatorUnavailable, StoreUnavailable, NoSuchJob),
    )
