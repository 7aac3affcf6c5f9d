"""A simulated Kubernetes API server: its REST protocol over `Objects`.

Written after what a real one answers (kube-apiserver 1.20; see the tests). It takes bearer
tokens, knows core/v1 only, and leaves running pods to somebody else: a `Kubelet`, or a test.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from vsmgate.simulators.kubernetes_access import REVIEWS, Access
from vsmgate.simulators.kubernetes_discovery import static, table
from vsmgate.simulators.kubernetes_objects import (
    ApiError,
    Change,
    Objects,
    Selector,
    moment,
    status_of,
)
from vsmgate.simulators.kubernetes_requests import (
    body_of,
    check_change,
    json_of,
    part_of,
    query_of,
    reply,
)
from vsmgate.simulators.kubernetes_schema import (
    KINDS,
    NAMESPACED,
    check_fields,
    merge,
    normal_status,
    prepare,
    strategic_merge,
)

__all__ = ["ApiServer", "Runner"]

Object = dict[str, Any]

_PATH = re.compile(
    r"/api/v1(?:/namespaces/(?P<namespace>[^/]+))?"
    r"/(?P<resource>[a-z]+)(?:/(?P<name>[^/]+)(?:/(?P<sub>[a-z]+))?)?"
)
_PATCHES = {
    "application/merge-patch+json": merge,
    "application/strategic-merge-patch+json": strategic_merge,
}


class Runner(Protocol):
    """What runs pods: its logs are asked for here, and it watches the objects itself."""

    def logs(self, pod: Object, container: str) -> bytes:
        """Return what a container wrote; raises `ApiError`."""


class ApiServer(Resource):
    """``access``: who may ask. ``runner``: where logs are; without it there is no node."""

    isLeaf = True

    def __init__(
        self,
        objects: Objects,
        clock: IReactorTime,
        wall: Callable[[], float],
        access: Access,
    ) -> None:
        super().__init__()
        self.objects = objects
        self.runner: Runner | None = None
        self.asked: list[tuple[str, str]] = []
        self._clock = clock
        self._wall = wall
        self.access = access

    def render(self, request: Request) -> Any:
        method = request.method.decode()
        path = request.path.decode("utf-8", "replace")
        self.asked.append((method, request.uri.decode("utf-8", "replace")))
        try:
            return self._answer(request, method, path)
        except ApiError as error:
            return reply(request, error.body, error.code)

    def _answer(self, request: Request, method: str, path: str) -> Any:
        user = self.access.user(request)
        known = static(path)
        if known is not None:
            return reply(request, known)
        if (method, path) == ("POST", REVIEWS):
            return reply(request, self.access.review(user, request), 201)
        found = _PATH.fullmatch(path)
        if found is None or found["resource"] not in KINDS:
            raise ApiError(404, "the server could not find the requested resource")
        resource, namespace = found["resource"], found["namespace"] or ""
        query = query_of(request)
        watches = query.get("watch") in ("1", "true")
        self.access.check(user, method, found.groupdict(), watch=watches)
        if found["name"]:
            return self._object(
                request, method, resource, namespace, found["name"], found["sub"] or ""
            )
        if method == "POST":
            return self._create(request, resource, namespace)
        if method == "DELETE":
            fits = Selector(query.get("labelSelector", ""), query.get("fieldSelector", ""))
            for one in self.objects.list(resource, namespace, fits):
                self._delete(request, resource, one["metadata"])
            return reply(request, status_of("Success"))
        if method != "GET":
            raise ApiError(405, "the server does not allow this method on the requested resource")
        if watches:
            return self._watch(request, resource, namespace, query)
        return self._list(request, resource, namespace, query)

    # -- verbs -------------------------------------------------------------------------

    def _create(self, request: Request, resource: str, namespace: str) -> Any:
        given = body_of(request, KINDS[resource])
        if resource == "pods" and query_of(request).get("fieldValidation") == "Strict":
            check_fields(given)
        if resource in NAMESPACED:
            self.objects.get("namespaces", "", namespace)
        if "generateName" in (meta := given.get("metadata") or {}) and not meta.get("name"):
            meta["name"] = f"{meta['generateName']}{self.objects.version:05x}"
        made = self.objects.create(resource, namespace, prepare(resource, given))
        return reply(request, made, 201)

    def _list(
        self, request: Request, resource: str, namespace: str, query: Mapping[str, str]
    ) -> Any:
        fits = Selector(query.get("labelSelector", ""), query.get("fieldSelector", ""))
        found = self.objects.list(resource, namespace, fits)
        meta: Object = {"resourceVersion": str(self.objects.version)}
        place, _, version = query.get("continue", "0").partition("@")
        if version:
            self.objects.since(int(version), resource)  # or it is too old
        start = int(place or 0)
        limit = int(query.get("limit") or 0) or len(found)
        if len(found) > start + limit:
            version = version or meta["resourceVersion"]
            meta |= {"continue": f"{start + limit}@{version}"}
            meta |= {"remainingItemCount": len(found) - start - limit}
        page = found[start : start + limit]
        if "as=Table" in (request.getHeader("Accept") or ""):
            return reply(request, table(resource, page, meta["resourceVersion"], self._wall()))
        items = [{k: v for k, v in one.items() if k not in ("kind", "apiVersion")} for one in page]
        listed = {"kind": f"{KINDS[resource]}List", "apiVersion": "v1"}
        return reply(request, listed | {"metadata": meta, "items": items})

    def _object(
        self, request: Request, method: str, resource: str, namespace: str, name: str, sub: str
    ) -> Any:
        found = self.objects.get(resource, namespace, name)
        if resource == "pods" and sub == "log" and method == "GET":
            return self._log(request, found)
        if resource == "pods" and sub == "binding" and method == "POST":
            found["spec"]["nodeName"] = body_of(request, "Binding")["target"]["name"]
            scheduled = {"type": "PodScheduled", "status": "True"}
            scheduled |= {"lastTransitionTime": self.objects.now()}
            found = strategic_merge(found, {"status": {"conditions": [scheduled]}})
            self._put(resource, found)
            return reply(request, status_of("Success", 201), 201)
        if sub not in ("", "status"):
            raise ApiError(404, "the server could not find the requested resource")
        if method == "GET":
            if "as=Table" in (request.getHeader("Accept") or ""):
                version = found["metadata"]["resourceVersion"]
                return reply(request, table(resource, [found], version, self._wall()))
            return reply(request, found)
        if method == "DELETE":
            return reply(request, self._delete(request, resource, found["metadata"]))
        if method == "PUT":
            given = prepare(resource, body_of(request, KINDS[resource]))
            given["metadata"] = found["metadata"] | given["metadata"]
            given |= {"status": found["status"]} if "status" in found else {}
            return reply(request, self._put(resource, given))
        if method == "PATCH":
            kind = (request.getHeader("Content-Type") or "").partition(";")[0]
            apply = _PATCHES.get(kind)
            if apply is None:
                raise ApiError(415, f"the body of the request was in an unknown format: {kind}")
            changed = apply(found, json_of(request))
            check_change(found, changed)
            return reply(request, self._put(resource, changed))
        raise ApiError(405, "the server does not allow this method on the requested resource")

    def _put(self, resource: str, changed: Object) -> Object:
        if resource == "pods":
            changed["status"] = normal_status(changed["status"])
        return self.objects.replace(resource, changed)

    def _delete(self, request: Request, resource: str, meta: Object) -> Object:
        name, namespace = meta["name"], meta.get("namespace", "")
        if resource != "pods":
            gone = self.objects.remove(resource, namespace, name)
            details = {"name": name, "kind": resource, "uid": gone["metadata"]["uid"]}
            return status_of("Success", details=details)
        pod = self.objects.get("pods", namespace, name)
        options = json_of(request, {}) or {}
        grace = options.get("gracePeriodSeconds", query_of(request).get("gracePeriodSeconds"))
        grace = int(pod["spec"]["terminationGracePeriodSeconds"] if grace is None else grace)
        over = pod["status"].get("phase") in ("Succeeded", "Failed")
        if over or not pod["spec"].get("nodeName"):
            grace = 0
        before = pod["metadata"].get("deletionGracePeriodSeconds")
        if before is None or grace < before:
            pod["metadata"]["deletionTimestamp"] = moment(self._wall() + grace)
            pod["metadata"]["deletionGracePeriodSeconds"] = grace
            pod = self.objects.replace("pods", pod)
        if grace == 0:
            self.objects.remove("pods", namespace, name)
        return pod

    def _log(self, request: Request, pod: Object) -> Any:
        query, names = query_of(request), [c["name"] for c in pod["spec"]["containers"]]
        container = query.get("container") or (names[0] if len(names) == 1 else "")
        if container not in names:
            name = pod["metadata"]["name"]
            told = f"container {container} is not valid for pod {name}"
            if not container:
                told = f"a container name must be specified for pod {name}, choose one of: {names}"
            raise ApiError(400, told)
        node = pod["spec"].get("nodeName", "")
        if self.runner is None:  # as the real one has it, where there is no such node
            raise ApiError(404, f'pods "{node}" not found', {"name": node, "kind": "pods"})
        request.setHeader(b"Content-Type", b"text/plain")
        return part_of(self.runner.logs(pod, container), query)

    # -- watching ----------------------------------------------------------------------

    def _watch(
        self, request: Request, resource: str, namespace: str, query: Mapping[str, str]
    ) -> Any:
        fits = Selector(query.get("labelSelector", ""), query.get("fieldSelector", ""))
        as_table = "as=Table" in (request.getHeader("Accept") or "")
        request.setHeader(b"Content-Type", b"application/json")

        def tell(type_: str, found: Object) -> None:
            if as_table and type_ != "ERROR":
                found = table(resource, [found], found["metadata"]["resourceVersion"], self._wall())
            request.write(json.dumps({"type": type_, "object": found}).encode() + b"\n")

        def changed(change: Change) -> None:
            home = change.object["metadata"].get("namespace", "")
            if change.resource == resource and namespace in ("", home) and fits(change.object):
                tell(change.type, change.object)

        version = int(query.get("resourceVersion") or 0)
        try:
            after = version and query.get("sendInitialEvents") != "true"
            earlier = list(self.objects.since(version, resource)) if after else []
        except ApiError as error:
            tell("ERROR", error.body)
            request.finish()
            return NOT_DONE_YET
        initial = query.get("sendInitialEvents") == "true"
        for found in self.objects.list(resource, namespace, fits) if initial or not version else ():
            tell("ADDED", found)
        if initial:  # the streaming list of later versions
            meta: Object = {"resourceVersion": str(self.objects.version)}
            meta["creationTimestamp"] = None
            meta["annotations"] = {"k8s.io/initial-events-end": "true"}
            mark = {"kind": KINDS[resource], "apiVersion": "v1", "metadata": meta}
            request.write(json.dumps({"type": "BOOKMARK", "object": mark}).encode() + b"\n")
        for change in earlier:
            changed(change)
        self.objects.watchers.append(changed)
        request.write(b"")  # the head leaves at once
        end = self._clock.callLater(float(query.get("timeoutSeconds") or 1800), request.finish)
        over: Deferred[Any] = request.notifyFinish()

        def ended(_: object) -> None:
            self.objects.watchers.remove(changed)
            if end.active():
                end.cancel()

        over.addBoth(ended)
        return NOT_DONE_YET
