"""The few questions to the Kubernetes API that the launcher has, and what answers mean.

Plain HTTP with JSON bodies: pods and secrets of one namespace (Kubernetes API reference,
core/v1). Everything but a refusal to create is `EngineUnreachable`: nothing is known then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlencode

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from vsmgate.errors import BadCredentials, EngineUnreachable
from vsmgate.hands.http_client import HttpAnswer, HttpFailed, http_client
from vsmgate.launchers.kubernetes_answers import (
    BAD_CREDENTIALS,
    Anything,
    Pod,
    PodList,
    Review,
    WatchEvent,
    decode,
    read_status,
    refusal,
    words_of,
)
from vsmgate.launchers.kubernetes_credentials import Access

__all__ = ["KubernetesClient"]

T = TypeVar("T")

#: Pods of one page of a list: some 2 MB, read in a few milliseconds.
_PAGE = 200
_MOST = 32 * 1024 * 1024
#: Octets of a log that are asked for at most; its lines may be long.
_MOST_LOG = 4 * 1024 * 1024
#: Seconds that one watch lasts; the server ends it.
_WATCH = 240
_MOST_LINE = 4 * 1024 * 1024


class KubernetesClient:
    """Asks one API server about one namespace. ``selector``: of the pods that are ours."""

    _log = Logger()

    def __init__(
        self, reactor: Any, access: Access, namespace: str, selector: str, timeout: float
    ) -> None:
        self._clock = IReactorTime(reactor)
        self._access = access
        self.namespace = namespace
        self._base = f"{access.server}/api/v1/namespaces/{namespace}"
        self._selector = selector
        self._http = http_client(reactor, timeout=timeout, max_body=_MOST, tls=access.tls)

    async def pods(self) -> tuple[dict[str, Pod], str]:
        """Return all pods that are ours, by name, and the version of that list."""
        found: dict[str, Pod] = {}
        token = ""
        while True:
            query = {"labelSelector": self._selector, "limit": _PAGE}
            answer = await self._ask("GET", "/pods", query | ({"continue": token} if token else {}))
            if answer.status == 410 and token:  # the list grew too old between two pages
                found, token = {}, ""
                continue
            page = decode(self._good(answer), PodList)
            found.update((pod.metadata.name, pod) for pod in page.items or ())
            token = page.metadata.cont
            if not token:
                return found, page.metadata.resource_version

    async def pod(self, name: str) -> Pod | None:
        """Return a pod; None when there is none of that name."""
        answer = await self._ask("GET", f"/pods/{name}")
        return None if self._missing(answer) else decode(self._good(answer), Pod)

    async def namespace_missing(self) -> bool:
        """Return whether Kubernetes says so; most accounts may not know."""
        return self._missing(await self._ask("GET", ""))

    async def may(self, verb: str, resource: str) -> bool:
        """Return whether we may do that (authorization.k8s.io/v1 SelfSubjectAccessReview).

        ``resource``: of the namespace, such as ``pods`` or ``pods/log``.
        """
        kind, _, sub = resource.partition("/")
        asked = {"namespace": self.namespace, "verb": verb, "resource": kind, "subresource": sub}
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": asked},
        }
        url = f"{self._access.server}/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        return decode(self._good(await self._send("POST", url, body)), Review).status.allowed

    async def create_pod(self, body: Mapping[str, Any]) -> Pod | None:
        """Create a pod; None when its name is taken. Raises `EngineRefused` too."""
        # What a use case misspells in a volume would be left out, and the volume be empty.
        answer = await self._ask("POST", "/pods", {"fieldValidation": "Strict"}, body)
        status = read_status(answer)
        if answer.status == 409 and status and status.reason == "AlreadyExists":
            return None
        return decode(self._taken(answer), Pod)

    async def put_secret(self, body: Mapping[str, Any]) -> None:
        """Create a secret, or replace the one of its name. Raises `EngineRefused` too."""
        answer = await self._ask("POST", "/secrets", body=body)
        if answer.status == 409:
            answer = await self._ask("PUT", f"/secrets/{body['metadata']['name']}", body=body)
        self._taken(answer)

    async def shorten(self, name: str, seconds: int) -> None:
        """Set a pod's deadline, which Kubernetes only lets become shorter."""
        body = {"spec": {"activeDeadlineSeconds": seconds}}
        answer = await self._ask("PATCH", f"/pods/{name}", body=body)
        if not self._missing(answer):
            decode(self._good(answer), Anything)

    async def delete(self, kind: str, name: str) -> None:
        """Delete a pod gracefully, or a secret; nothing happens when it is gone."""
        answer = await self._ask("DELETE", f"/{kind}/{name}")
        if not self._missing(answer) and answer.status != 409:
            decode(self._good(answer), Anything)

    async def logs(self, name: str, container: str, lines: int) -> bytes:
        """Return the last lines that a container wrote; nothing where there is no log."""
        query = {"container": container, "tailLines": lines, "limitBytes": _MOST_LOG}
        answer = await self._ask("GET", f"/pods/{name}/log", query)
        if answer.status in (400, 404) and read_status(answer) is not None:
            return b""  # no such pod or container, or it has not started
        return self._good(answer).body

    async def watch(self, version: str, changed: Callable[[], None]) -> None:
        """Call ``changed`` for every change after ``version``, until the server ends it.

        Returns also when the version is too old for the server: list again, then.
        """
        query = {"watch": "1", "labelSelector": self._selector, "timeoutSeconds": _WATCH}
        url = f"{self._base}/pods?{urlencode(query | {'resourceVersion': version})}"
        lines = _Lines(changed)
        following = Deferred.fromCoroutine(
            self._http.follow(url, self._access.headers(), lines.receive)
        )

        def late(_: object, seconds: float) -> NoReturn:
            raise HttpFailed("the watch was not ended by the server")

        status = await following.addTimeout(_WATCH + 30, self._clock, late)
        if status not in (200, 410):
            raise HttpFailed(f"a watch is answered with HTTP {status}")

    async def close(self) -> None:
        """Close kept connections."""
        await self._http.close()

    # -- one question ------------------------------------------------------------------

    async def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> HttpAnswer:
        url = f"{self._base}{path}{'?' + urlencode(query) if query else ''}"
        return await self._send(method, url, body)

    async def _send(
        self, method: str, url: str, body: Mapping[str, Any] | None = None
    ) -> HttpAnswer:
        data, headers = None, {}
        if body is not None:
            data = msgspec.json.encode(body)
            merge = "application/merge-patch+json"  # RFC 7386
            headers["Content-Type"] = merge if method == "PATCH" else "application/json"
        try:
            return await self._http.request(method, url, headers | self._access.headers(), data)
        except HttpFailed as error:
            raise EngineUnreachable(f"The Kubernetes API cannot be asked: {error}.") from None

    def _missing(self, answer: HttpAnswer) -> bool:
        """Return whether Kubernetes itself says that there is no such thing."""
        status = read_status(answer) if answer.status == 404 else None
        return status is not None and status.reason == "NotFound"

    def _good(self, answer: HttpAnswer) -> HttpAnswer:
        """Return a good answer; raises `EngineUnreachable`, and logs what only operators see."""
        if 200 <= answer.status < 300:
            return answer
        status = read_status(answer)
        self._tell(answer, status.message if status else "")
        if status is None:
            why = "what answers does not speak its language"
        elif answer.status == 401:
            raise BadCredentials(BAD_CREDENTIALS)
        elif answer.status == 403:
            why = "the gateway may not ask that there; tell its operator"
        elif answer.status >= 500:  # its words name nodes, webhooks: for the log only
            why = "it failed; tell its operator"
        else:
            why = words_of(status.message) or status.reason
        raise EngineUnreachable(
            f"The Kubernetes API cannot be asked: {why} (HTTP {answer.status})."
        )

    def _taken(self, answer: HttpAnswer) -> HttpAnswer:
        """Return the answer to something that is to be made; raises errors of both kinds."""
        status = read_status(answer)
        if 200 <= answer.status < 300 or status is None:
            return self._good(answer)
        self._tell(answer, status.message)
        raise refusal(answer.status, status)

    def _tell(self, answer: HttpAnswer, message: str) -> None:
        self._log.warn(
            "Kubernetes answered HTTP {status}: {message}",
            status=answer.status,
            message=words_of(message),
        )


class _Lines:
    """Cuts a watch into lines, and tells of those that are changes."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._rest = bytearray()

    def receive(self, data: bytes) -> None:
        self._rest += data
        *lines, rest = self._rest.split(b"\n")
        self._rest = rest
        if len(rest) > _MOST_LINE:
            self._rest.clear()
        if any(self._is_change(bytes(line)) for line in lines):
            self._changed()

    @staticmethod
    def _is_change(line: bytes) -> bool:
        try:
            told = msgspec.json.decode(line, type=WatchEvent)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False
        return told.type in ("ADDED", "MODIFIED", "DELETED")
