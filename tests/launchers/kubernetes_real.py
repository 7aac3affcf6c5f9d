"""A real Kubernetes API server beside the simulated kubelet, which plays its only node.

The server is one without scheduler and nodes, such as envtest's or a bare kube-apiserver with its
etcd: ``VSMGATE_TEST_KUBECONFIG`` names an administrator's kubeconfig of it. The launcher gets
a service account with the Role of conf/deploy/kubernetes.yaml, and nothing else.
"""

from __future__ import annotations

import base64
import json
import os
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml
from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.logger import Logger
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from vsmgate.hands.http_client import HttpAnswer, HttpFailed, http_client
from vsmgate.launchers.kubernetes_credentials import from_kubeconfig
from vsmgate.simulators.kubernetes_certificate import self_signed
from vsmgate.simulators.kubernetes_kubelet import NODE, Kubelet
from vsmgate.simulators.kubernetes_objects import ApiError, Change, Objects
from vsmgate.simulators.kubernetes_requests import part_of, query_of

KUBECONFIG = "VSMGATE_TEST_KUBECONFIG"
DEPLOY = Path(__file__).parents[2] / "conf" / "deploy" / "kubernetes.yaml"
Object = dict[str, Any]


class RealServer:
    """Asks the real API server, as its administrator."""

    def __init__(self, reactor: Any, kubeconfig: Path) -> None:
        self.access = from_kubeconfig(kubeconfig, "", "test")
        self.config = yaml.safe_load(kubeconfig.read_text())
        self.folder = kubeconfig.parent
        self.http = http_client(reactor, timeout=20.0, tls=self.access.tls, max_body=2**25)

    async def ask(self, method: str, path: str, body: Object | None = None, kind: str = "") -> Any:
        """Return what it answers; raises `ApiError`."""
        answer = await self.send(method, path, body, kind)
        told = json.loads(answer.body)
        if answer.status >= 300:
            raise ApiError(answer.status, str(told.get("message")))
        return told

    async def send(
        self, method: str, path: str, body: Object | None = None, kind: str = ""
    ) -> HttpAnswer:
        headers = {**self.access.headers(), "Content-Type": kind or "application/json"}
        data = None if body is None else json.dumps(body).encode()
        return await self.http.request(method, self.access.server + path, headers, data)

    def kubeconfig(self, namespace: str, token: str) -> str:
        """Return a kubeconfig with a token."""
        cluster = dict(self.config["clusters"][0]["cluster"])
        if file := cluster.pop("certificate-authority", ""):
            data = (self.folder / file).read_bytes()
            cluster["certificate-authority-data"] = base64.b64encode(data).decode()
        context = {"cluster": "real", "user": "real", "namespace": namespace}
        config = {"clusters": [{"name": "real", "cluster": cluster}], "current-context": "real"}
        config |= {"users": [{"name": "real", "user": {"token": token}}]}
        return json.dumps(config | {"contexts": [{"name": "real", "context": context}]})


class MirroredObjects(Objects):
    """Pods and secrets of one namespace as the server has them; what is changed goes there.

    Nodes and events stay here. ``faults``: what the server did not take.
    """

    _log = Logger()

    def __init__(self, wall: Callable[[], float], server: RealServer, namespace: str) -> None:
        super().__init__(wall)
        self.faults: list[str] = []
        self._server = server
        self._base = f"/api/v1/namespaces/{namespace}"
        self._namespace = namespace
        self._lock = DeferredLock()
        self._writes: Counter[str] = Counter()
        self._written: dict[str, int] = {}
        self._watches: list[Deferred[Any]] = []

    # -- from the server ---------------------------------------------------------------

    async def begin(self) -> None:
        """List, and watch from there on."""
        for resource in ("secrets", "pods"):
            listed = await self._server.ask("GET", f"{self._base}/{resource}")
            for found in listed["items"] or ():
                self._see("ADDED", resource, found)
            version = listed["metadata"]["resourceVersion"]
            self._watches.append(Deferred.fromCoroutine(self._follow(resource, version)))

    async def _follow(self, resource: str, version: str) -> None:
        query = urlencode({"watch": 1, "resourceVersion": version})
        url = f"{self._server.access.server}{self._base}/{resource}?{query}"
        rest = bytearray()

        def receive(data: bytes) -> None:
            rest.extend(data)
            *lines, left = bytes(rest).split(b"\n")
            rest[:] = left
            for line in lines:
                told = json.loads(line)
                self._see(told["type"], resource, told["object"])

        try:
            await self._server.http.follow(url, self._server.access.headers(), receive)
        except CancelledError:
            return
        except HttpFailed as error:
            self.faults.append(f"watch: {error}")

    def _see(self, type_: str, resource: str, found: Object) -> None:
        if type_ not in ("ADDED", "MODIFIED", "DELETED"):
            return
        name = found["metadata"]["name"]
        key = resource, self._namespace, name
        known = self._all.get(key)
        late = int(found["metadata"]["resourceVersion"]) < self._written.get(name, 0)
        if type_ != "DELETED" and (late or self._writes[name]):
            return  # older than what is here
        if type_ == "DELETED":
            self._all.pop(key, None)
        else:
            self._all[key] = {"kind": resource, **found}
        told = type_ if known is None or type_ == "DELETED" else "MODIFIED"
        for watcher in list(self.watchers):
            watcher(Change(self.version, told, resource, found))

    # -- to the server -----------------------------------------------------------------

    def replace(self, resource: str, changed: Object) -> Object:
        if resource != "pods":
            return super().replace(resource, changed)
        name = changed["metadata"]["name"]
        old = self.get("pods", self._namespace, name)
        self._all["pods", self._namespace, name] = changed
        path = f"{self._base}/pods/{name}"
        if node := changed["spec"].get("nodeName") if not old["spec"].get("nodeName") else "":
            target = {"apiVersion": "v1", "kind": "Node", "name": node}
            binding = {"metadata": {"name": name}, "target": target}
            self._write(name, "POST", f"{path}/binding", binding)
        status = {key: value for key, value in changed["status"].items() if key != "qosClass"}
        merge = "application/strategic-merge-patch+json"
        self._write(name, "PATCH", f"{path}/status", {"status": status}, merge)
        return changed

    def remove(self, resource: str, namespace: str, name: str) -> Object:
        if resource in ("pods", "secrets"):
            now = {"gracePeriodSeconds": 0}
            self._write(name, "DELETE", f"{self._base}/{resource}/{name}", now)
        return super().remove(resource, namespace, name)

    def _write(self, name: str, method: str, path: str, body: Object, kind: str = "") -> None:
        async def write() -> None:
            told: Object = {}
            try:
                told = await self._server.ask(method, path, body, kind)
            except (ApiError, HttpFailed) as error:
                if getattr(error, "code", 0) != 404:  # it is gone by now
                    self.faults.append(f"{method} {path}: {error}")
            self._writes[name] -= 1
            if method == "PATCH" and told:
                self._written[name] = int(told["metadata"]["resourceVersion"])
                self._see("MODIFIED", "pods", told)

        self._writes[name] += 1
        self._lock.run(Deferred.fromCoroutine, write())

    async def end(self) -> None:
        """Watch no more; wait until all is written."""
        for watch in self._watches:
            watch.cancel()
        await self._lock.run(lambda: None)


class RealCluster:
    """What `vsmgate.simulators.kubernetes.Cluster` is, with a real API server."""

    def __init__(
        self, reactor: Any, folder: Path, wall: Callable[[], float], images: Mapping[str, Any]
    ) -> None:
        self.namespace = f"vsmgate-test-{uuid.uuid4().hex[:8]}"
        self._token = ""
        self.server = RealServer(reactor, Path(os.environ[KUBECONFIG]))
        self.objects = MirroredObjects(wall, self.server, self.namespace)
        room = {"cpu": "8", "memory": "16Gi"}
        self.kubelet = Kubelet(reactor, self.objects, wall, folder, images, room)
        _, options = self_signed("127.0.0.1", wall())
        site = Site(_Logs(self))
        self._port = reactor.listenSSL(0, site, options, interface="127.0.0.1")

    async def begin(self) -> None:
        """Make the namespace, the node and the launcher's account."""
        ask = self.server.ask
        meta = {
            "name": self.namespace,
            "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
        }
        await ask("POST", "/api/v1/namespaces", {"metadata": meta})
        accounts = f"/api/v1/namespaces/{self.namespace}/serviceaccounts"
        rights = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{self.namespace}"
        await self._make(accounts, {"metadata": {"name": "default"}})
        for made in yaml.safe_load_all(DEPLOY.read_text()):
            places = {"Role": f"{rights}/roles", "RoleBinding": f"{rights}/rolebindings"}
            if place := (places | {"ServiceAccount": accounts}).get(made["kind"]):
                for subject in made.get("subjects", ()):
                    subject["namespace"] = self.namespace
                await self._make(place, made)
        await self._make_node()
        await self.objects.begin()
        asked = {"spec": {"expirationSeconds": 3600}}
        granted = await ask("POST", f"{accounts}/vsmgate/token", asked)
        self._token = granted["status"]["token"]

    def listen(self) -> str:
        """Return where it is."""
        return self.server.access.server

    def kubeconfig(self, _: str) -> str:
        """Return the launcher's kubeconfig."""
        return self.server.kubeconfig(self.namespace, self._token)

    async def _make(self, path: str, made: Object) -> None:
        try:
            await self.server.ask("POST", path, made)
        except ApiError as error:
            if error.code != 409:
                raise

    async def _make_node(self) -> None:
        node = {"kubeletEndpoint": {"Port": self._port.getHost().port}}
        status = {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}]}
        status |= {"daemonEndpoints": node}
        await self._make("/api/v1/nodes", {"metadata": {"name": NODE}})
        merge = "application/merge-patch+json"
        await self.server.ask("PATCH", f"/api/v1/nodes/{NODE}/status", {"status": status}, merge)

    async def stop(self) -> None:
        """End all; what was made stays only as far as the server has no controllers."""
        await self.kubelet.stop()
        await self.objects.end()
        await self._port.stopListening()
        base = f"/api/v1/namespaces/{self.namespace}"
        await self.server.ask("DELETE", f"{base}/pods", {"gracePeriodSeconds": 0})
        await self.server.ask("DELETE", base)
        await self.server.http.close()
        assert self.objects.faults == []


class _Logs(Resource):
    """What the API server asks a kubelet for (``/containerLogs/NAMESPACE/POD/CONTAINER``)."""

    isLeaf = True

    def __init__(self, cluster: RealCluster) -> None:
        super().__init__()
        self._cluster = cluster

    def render_GET(self, request: Request) -> bytes:
        *_, namespace, name, container = request.path.decode().split("/")
        try:
            pod = self._cluster.objects.get("pods", namespace, name)
            return part_of(self._cluster.kubelet.logs(pod, container), query_of(request))
        except ApiError as error:
            request.setResponseCode(error.code)
            return str(error).encode()
