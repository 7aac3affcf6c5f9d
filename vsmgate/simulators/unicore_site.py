"""The REST API of the UNICORE stand-in.

``/SITE/rest/core`` with jobs, storages, factories and transfers, as UNICORE 10 answers them:
errors are ``{"errorMessage": ..., "status": ...}``, actions answer 204, every authenticated
answer names a security session, and an unknown session is HTTP 432.

https://unicore-docs.readthedocs.io/en/latest/user-docs/rest-api/
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Collection
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from twisted.web.resource import Resource
from twisted.web.server import Request

from vsmgate.simulators.unicore_batch import Batch
from vsmgate.simulators.unicore_files import Denied, Storage
from vsmgate.simulators.unicore_job import QUEUES, Job, Unusable, moment, properties_of

__all__ = ["UnicoreSite"]

PREFIX = ("VSMGATE", "rest", "core")
FACTORY = "default_target_system_factory"
_SESSION_LIFETIME = 300.0


class UnicoreSite(Resource):
    """One site, whose users have a bearer token or a password (``USER:PASSWORD``)."""

    isLeaf = True

    def __init__(
        self,
        reactor: Any,
        folder: Path,
        tokens: Collection[str],
        passwords: Collection[str],
        slots: int,
    ) -> None:
        super().__init__()
        self.url = ""  # set when the port is known
        self.batch = Batch(reactor, folder / "jobs", slots)
        self._clock = reactor
        self._home = folder / "home"
        self._home.mkdir(parents=True, exist_ok=True)
        basic = [base64.b64encode(pair.encode()).decode() for pair in passwords]
        self._known = {f"Bearer {token}" for token in tokens} | {f"Basic {b}" for b in basic}
        self._sessions: dict[str, float] = {}

    def render(self, request: Request) -> bytes:
        """Answer one request."""
        path = [unquote(part.decode()) for part in request.path.split(b"/") if part]
        try:
            if tuple(path[:3]) != PREFIX:
                raise Denied(404, "Nothing here.")
            who = self._authenticated(request)
            if not who and path[3:]:
                raise Denied(403, "Authentication failed - credentials could not be verified.")
            status, body = self._dispatch(request, path[3:], who)
        except Unusable as error:
            status, body = 500, {"errorMessage": f"Could not submit job: {error}", "status": 500}
        except Denied as error:
            status, body = error.status, {"errorMessage": str(error), "status": error.status}
        except (OSError, ValueError) as error:
            status, body = 500, {"errorMessage": type(error).__name__, "status": 500}
        request.setResponseCode(status)
        if isinstance(body, bytes):
            request.setHeader("Content-Type", "application/octet-stream")
            return body
        if body is None:
            return b""
        request.setHeader("Content-Type", "application/json")
        return json.dumps(body).encode()

    def expire_sessions(self) -> None:
        """Let all security sessions be over."""
        self._sessions.clear()

    # -- who asks ------------------------------------------------------------------------

    def _authenticated(self, request: Request) -> bool:
        now = self._clock.seconds()
        session = request.getHeader("X-UNICORE-SecuritySession")
        if session is not None:
            if self._sessions.get(session, 0.0) < now:
                raise Denied(432, "Security session expired.")
        elif request.getHeader("Authorization") in self._known:
            session = str(uuid.uuid4())
            self._sessions[session] = now + _SESSION_LIFETIME
        else:
            return False
        request.setHeader("X-UNICORE-SecuritySession", session)
        request.setHeader("X-UNICORE-SecuritySession-Lifetime", str(int(_SESSION_LIFETIME)))
        return True

    def _preferences(self, request: Request) -> dict[str, str]:
        header = request.getHeader("X-UNICORE-User-Preferences") or ""
        pairs = [part.split(":") for part in header.split(",") if part]
        if any(len(pair) != 2 for pair in pairs):
            raise Denied(403, f"Invalid format for user preference: {header}")
        return {pair[0]: pair[1] for pair in pairs}

    # -- what is asked -------------------------------------------------------------------

    def _dispatch(self, request: Request, path: list[str], who: bool) -> tuple[int, Any]:
        method = request.method.decode()
        match [method, *path]:
            case ["GET"]:
                return 200, self._base(request, who)
            case ["GET", "jobs"]:
                return 200, self._page(request, "jobs", self._jobs(request))
            case ["POST", "jobs"]:
                job = self.batch.submit(_json(request), self._preferences(request).get("uid", ""))
                request.setHeader("Location", f"{self.url}/jobs/{job.id}")
                return 201, None
            case [_, "jobs", job_id, *rest]:
                return self._job(request, method, self._find(job_id), rest)
            case ["GET", "storages"]:
                every = _argument(request, "filter") == "all"
                uspaces = [f"{job}-uspace" for job in self.batch.jobs] if every else []
                return 200, self._page(request, "storages", ["HOME", *uspaces])
            case [_, "storages", name, *rest]:
                return self._storage(request, method, name, rest)
            case ["GET", "transfers"]:
                return 200, self._page(request, "transfers", [])
            case ["GET", "factories"]:
                return 200, self._page(request, "factories", [FACTORY])
            case ["GET", "factories", name, *rest] if name == FACTORY:
                return 200, self._factory(rest)
            case _:
                raise Denied(404, "Nothing here.")

    def _base(self, request: Request, who: bool) -> dict[str, Any]:
        uid = self._preferences(request).get("uid", "sim") if who else "nobody"
        role = "user" if who else "anonymous"
        names = ("jobs", "storages", "factories", "transfers")
        return {
            "client": {
                "dn": "CN=sim" if who else "CN=ANONYMOUS,O=UNKNOWN,OU=UNKNOWN",
                "role": {"selected": role, "availableRoles": [role]},
                "xlogin": {"UID": uid, "availableUIDs": [uid], "availableGroups": []},
                "queues": {"availableQueues": list(QUEUES)} if who else {},
            },
            "server": {
                "version": "10.1.0",
                "siteName": PREFIX[0],
                "currentTime": moment(self._clock.seconds()),
                "jobSubmission": {"enabled": True, "message": "OK"},
            },
            "_links": {name: {"href": f"{self.url}/{name}"} for name in names},
        }

    def _factory(self, rest: list[str]) -> dict[str, Any]:
        url = f"{self.url}/factories/{FACTORY}"
        if rest:
            return {"ApplicationName": "Bash shell", "ApplicationVersion": "1", "Options": {}}
        most = {
            name: {"Nodes": f"1-{nodes}", "Runtime": "1-86400"} for name, nodes in QUEUES.items()
        }
        return {
            "siteName": PREFIX[0],
            "resources": most,
            "applications": ["Bash shell---v1"],
            "remainingComputeTime": {},
            "_links": {"self": {"href": url}, "applications": {"href": f"{url}/applications"}},
        }

    def _jobs(self, request: Request) -> list[str]:
        wanted = {tag for tag in (_argument(request, "tags") or "").split(",") if tag}
        return [job.id for job in self.batch.jobs.values() if wanted <= set(job.tags)]

    def _page(self, request: Request, name: str, ids: list[str]) -> dict[str, Any]:
        first, count = int(_argument(request, "offset") or 0), int(_argument(request, "num") or 200)
        links = {"self": {"href": f"{self.url}/{name}"}}
        if len(ids) > first + count:
            links["next"] = {"href": f"{self.url}/{name}?offset={first + count}&num={count}"}
        page = ids[first : first + count]
        return {name: [f"{self.url}/{name}/{one}" for one in page], "_links": links}

    def _find(self, job_id: str) -> Job:
        job = self.batch.jobs.get(job_id)
        if job is None:
            raise Denied(404, f"No such job: {job_id}")
        return job

    def _job(self, request: Request, method: str, job: Job, rest: list[str]) -> tuple[int, Any]:
        match [method, *rest]:
            case ["GET"]:
                fields = {f for f in (_argument(request, "fields") or "").split(",") if f}
                found = properties_of(job, self.url)
                return 200, {key: found[key] for key in found if not fields or key in fields}
            case ["GET", "details"]:
                if not job.batch_number:
                    raise Denied(500, "Could not get job details: not submitted")
                return 200, {"rawDetailsData": self._details(job)}
            case ["GET", "submitted"]:
                return 200, job.description
            case ["PUT"]:
                changes = _json(request)
                job.tags = [str(tag) for tag in changes.get("tags", job.tags)]
                return 200, {key: "OK" if key == "tags" else "not modified" for key in changes}
            case ["DELETE"]:
                self.batch.delete(job)
                return 204, None
            case ["POST", "actions", "start"]:
                self.batch.start(job)
            case ["POST", "actions", "abort"]:
                self.batch.abort(job)
            case ["POST", "actions", "restart"]:
                self.batch.restart(job)
            case _:
                raise Denied(404, "Nothing here.")
        return 204, None

    def _details(self, job: Job) -> str:
        """Return what ``scontrol show job`` says; its times have no zone."""
        waits = job.batch_state == "PENDING"
        start = self.batch.expected_start(job) if waits else job.started_at
        end = job.ended_at or start + job.runtime
        return (
            f"JobId={job.batch_number} JobName={job.description.get('Name', 'UNICORE_Job')}\n"
            f"   JobState={job.batch_state} Reason={'Resources' if waits else 'None'}"
            f" Dependency=(null)\n   StartTime={moment(start)[:19]} EndTime={moment(end)[:19]}\n"
            f"   Partition={job.queue} NumNodes={job.nodes}\n"
        )

    def _storage(
        self, request: Request, method: str, name: str, rest: list[str]
    ) -> tuple[int, Any]:
        folder = self._home if name == "HOME" else self._find(name.removesuffix("-uspace")).folder
        storage = Storage(folder, f"{self.url}/storages/{name}")
        octets = "octet-stream" in (request.getHeader("Accept") or "")
        match [method, *rest]:
            case ["GET"]:
                return 200, storage.properties()
            case ["POST", "actions", action]:
                storage.act(action, _json(request))
            case ["GET", "files", *path] if octets:
                return storage.read("/".join(path), request.getHeader("Range"))
            case ["GET", "files", *path]:
                return 200, storage.stat("/".join(path))
            case ["PUT", "files", *path] if request.getHeader("Content-Type") == "application/json":
                return 200, storage.change("/".join(path), _json(request))
            case ["PUT", "files", *path]:
                storage.write("/".join(path), _body(request))
            case ["POST", "files", *path]:
                storage.make_folder("/".join(path))
                request.setHeader("Location", f"{self.url}/storages/{name}/files/{'/'.join(path)}")
                return 201, None
            case ["DELETE", "files", *path]:
                storage.remove("/".join(path))
            case _:
                raise Denied(404, "Nothing here.")
        return 204, None


def _body(request: Request) -> bytes:
    content: Any = request.content
    data: bytes = content.read()
    return data


def _json(request: Request) -> dict[str, Any]:
    found = json.loads(_body(request) or b"{}")
    if not isinstance(found, dict):
        raise Unusable("A JSON object is expected.")
    return found


def _argument(request: Request, name: str) -> str | None:
    values = request.args.get(name.encode())
    return values[0].decode() if values else None
