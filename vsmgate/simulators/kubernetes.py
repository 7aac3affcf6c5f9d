"""bin/simulate kubernetes: a Kubernetes API on this machine, whose pods are processes.

One namespace, one node, no isolation: containers run as you, with your files. It is for trying
configurations and for tests; kubectl and client libraries can be used with it.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.web.server import Site

from vsmgate.simulators import told
from vsmgate.simulators.kubernetes_access import Access
from vsmgate.simulators.kubernetes_api import ApiServer
from vsmgate.simulators.kubernetes_certificate import self_signed
from vsmgate.simulators.kubernetes_kubelet import Kubelet
from vsmgate.simulators.kubernetes_objects import Objects

__all__ = ["IMAGES", "Cluster", "main"]

#: The images of the use cases that come with vsmgate: their commands are in the use cases.
IMAGES: Mapping[str, tuple[str, ...]] = {
    "vsmgate/demo": (),
    "vsmgate/viser": (),
    "vsmgate/trame": (),
}
_ROOM = {"cpu": "8", "memory": "16Gi"}


class Cluster:
    """A simulated cluster. ``tokens``: token -> user; those of ``allowed`` may do everything."""

    def __init__(
        self,
        reactor: Any,
        folder: Path,
        wall: Callable[[], float],
        *,
        namespace: str = "vsmgate",
        images: Mapping[str, tuple[str, ...]] = IMAGES,
        room: Mapping[str, str] = _ROOM,
        token: str = "simulated",
        tokens: Mapping[str, str] | None = None,
        node: bool = True,
    ) -> None:
        self.namespace = namespace
        self.token = token
        self.objects = Objects(wall)
        users = {token: "vsmgate", **(tokens or {})}
        access = Access(users, frozenset({"vsmgate"}))
        self.api = ApiServer(self.objects, reactor, wall, access)
        for name in sorted({"default", namespace}):
            made = {"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name}}
            self.objects.create("namespaces", "", made | {"status": {"phase": "Active"}})
        self.kubelet: Kubelet | None = None
        if node:
            self.kubelet = Kubelet(reactor, self.objects, wall, folder, images, room)
            self.api.runner = self.kubelet
        self._reactor = reactor
        self._wall = wall
        self._port: Any = None
        self.certificate = ""

    def listen(self, port: int = 0, *, tls: bool = True) -> str:
        """Listen on the loopback address; return the URL."""
        site, scheme = Site(self.api), "http"
        if tls:
            scheme = "https"
            self.certificate, options = self_signed("127.0.0.1", self._wall())
            self._port = self._reactor.listenSSL(port, site, options, interface="127.0.0.1")
        else:
            self._port = self._reactor.listenTCP(port, site, interface="127.0.0.1")
        return f"{scheme}://127.0.0.1:{self._port.getHost().port}"

    def kubeconfig(self, url: str) -> str:
        """Return a kubeconfig file for it (JSON is YAML too)."""
        cluster = {"server": url}
        if self.certificate:
            data = base64.b64encode(self.certificate.encode()).decode()
            cluster["certificate-authority-data"] = data
        context = {"cluster": "simulated", "user": "simulated", "namespace": self.namespace}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "simulated",
            "clusters": [{"name": "simulated", "cluster": cluster}],
            "users": [{"name": "simulated", "user": {"token": self.token}}],
            "contexts": [{"name": "simulated", "context": context}],
        }
        return json.dumps(config, indent=2) + "\n"

    async def stop(self) -> None:
        """Stop listening; kill all processes."""
        if self._port is not None:
            await self._port.stopListening()
        if self.kubelet is not None:
            await self.kubelet.stop()


def main(arguments: list[str]) -> None:
    """Run one in the foreground, until Ctrl-C."""
    from twisted.internet import reactor as found

    reactor: Any = found
    options = _parser().parse_args(arguments)
    images = dict(IMAGES)
    for text in options.image:
        name, _, command = text.partition("=")
        images[name] = tuple(command.split())
    with tempfile.TemporaryDirectory(prefix="vsmgate-kubernetes-") as name:
        folder = Path(name)
        room = {"cpu": options.cpu, "memory": options.memory}
        wall = time.time
        cluster = Cluster(
            reactor, folder, wall, namespace=options.namespace, images=images, room=room
        )
        try:
            url = cluster.listen(options.port)
        except OSError as error:
            sys.exit(f"port {options.port} cannot be listened at: {error}")
        kubeconfig = options.kubeconfig or folder / "kubeconfig"
        kubeconfig.touch(mode=0o600)
        kubeconfig.write_text(cluster.kubeconfig(url))
        reactor.addSystemEventTrigger(
            "before", "shutdown", lambda: Deferred.fromCoroutine(cluster.stop())
        )
        sys.stdout.write(_told(url, os.path.abspath(kubeconfig)))
        sys.stdout.flush()
        reactor.run()


def _told(url: str, kubeconfig: str) -> str:
    table = f"""\
[launchers.kubernetes]
kind = "kubernetes"
kubeconfig = {json.dumps(kubeconfig)}
bind = "{{pod}}"                  # pods here have one network, and an address each
targets = ["127.0.0.0/8"]
"""
    look = f"To look into it: kubectl --kubeconfig {kubeconfig} get pods --watch"
    return told(f"A Kubernetes API, whose pods run here: {url}", "kubernetes", table, look)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bin/simulate kubernetes", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--namespace", default="vsmgate", help="default: vsmgate")
    parser.add_argument(
        "--image",
        action="append",
        default=[],
        metavar="NAME[=COMMAND]",
        help="an image that can be pulled, and what it runs where a pod has no command",
    )
    parser.add_argument("--cpu", default=_ROOM["cpu"], help="of the node; default: 8")
    parser.add_argument("--memory", default=_ROOM["memory"], help="of the node; default: 16Gi")
    parser.add_argument("--kubeconfig", type=Path, help="default: in a temporary folder")
    return parser
