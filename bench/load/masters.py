"""The REST face of a gateway under load: start jobs, wait until they are ready, stop them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import treq
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

__all__ = ["Master", "Target", "Trouble"]

PATIENCE = 10.0


class Trouble(Exception):
    """The load cannot begin; the text says why."""


@dataclass(frozen=True)
class Target:
    """A service's WebSocket URL, and the token that opens it."""

    url: str
    token: str
    job_id: str


class Master:
    """One gateway; what it started here it also stops."""

    def __init__(self, reactor: Any, url: str, token: str) -> None:
        self.url = url.rstrip("/")
        self._reactor = reactor
        self._token = token
        self._started: list[str] = []

    async def start(self, usecase: str) -> str:
        """Start a job and return its id."""
        status, body = await self._ask("POST", "/v1/jobs", {"usecase": usecase, "name": "load"})
        if status not in (201, 202):
            raise Trouble(f"{self.url} does not start {usecase!r}: {_told(status, body)}")
        self._started.append(body["id"])
        return str(body["id"])

    async def knows(self, job_id: str) -> bool:
        """Return whether this gateway has that job for us."""
        status, _ = await self._ask("GET", f"/v1/jobs/{job_id}")
        return status == 200

    async def ready(self, job_id: str, service: str, patience: float) -> Target:
        """Return the service once the job is ready; it has ``patience`` seconds."""
        deadline = self._reactor.seconds() + patience
        while True:
            status, job = await self._ask("GET", f"/v1/jobs/{job_id}")
            if status != 200:
                raise Trouble(f"{self.url} does not show job {job_id}: {_told(status, job)}")
            if service not in job["services"]:
                known = ", ".join(job["services"])
                raise Trouble(f"job {job_id} has no service {service!r}; it has: {known}")
            if job["services"][service]["ready"]:
                return Target(job["services"][service]["url"], self._token, job_id)
            reason = (job.get("reason") or {}).get("message", "")
            if job["ended_at"]:
                raise Trouble(f"job {job_id} has ended ({job['state']}): {reason}")
            if self._reactor.seconds() > deadline:
                raise Trouble(f"job {job_id} is {job['state']} after {patience:g} s: {reason}")
            await deferLater(self._reactor, 0.2)

    async def stop(self) -> list[str]:
        """Stop what was started; return the ids of jobs that could not be stopped."""
        left = []
        for job_id in self._started:
            try:
                status, _ = await self._ask("DELETE", f"/v1/jobs/{job_id}")
            except Trouble:
                status = 0
            if status not in (202, 204, 404):
                left.append(job_id)
        self._started = []
        return left

    async def _ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        headers: dict[bytes | str, bytes | str] = {"Authorization": f"Bearer {self._token}"}
        extra: dict[str, Any] = {} if body is None else {"json": body}
        try:
            answer = await treq.request(
                method,
                self.url + path,
                headers=headers,
                reactor=self._reactor,
                timeout=PATIENCE,
                persistent=False,
                **extra,
            )
            text = await _within(self._reactor, treq.content(answer))
        except Exception as error:
            raise Trouble(f"{self.url} does not answer: {error or type(error).__name__}") from None
        try:
            return answer.code, json.loads(text) if text else {}
        except ValueError:
            return answer.code, {}


async def _within(reactor: Any, waiting: Deferred[bytes]) -> bytes:
    return await waiting.addTimeout(PATIENCE, reactor)


def _told(status: int, body: Any) -> str:
    detail = body.get("detail", "") if isinstance(body, dict) else ""
    return f"{status} {detail}".strip()
