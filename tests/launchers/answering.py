"""A server that answers whatever it is told, and each launcher that asks over HTTP, at it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import NamedTuple

from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from tests.launchers import ecs_rig, kubernetes_rig, slurm_rig, unicore_rig
from vsmgate.interfaces import Context, ILauncher
from vsmgate.launchers.ecs import EcsLauncherFactory
from vsmgate.launchers.ecs_settings import EcsSettings
from vsmgate.launchers.kubernetes import KubernetesLauncherFactory
from vsmgate.launchers.kubernetes_settings import KubernetesSettings
from vsmgate.launchers.slurm import SlurmLauncherFactory
from vsmgate.launchers.slurm_settings import RestSettings, SlurmSettings
from vsmgate.launchers.unicore import UnicoreLauncherFactory
from vsmgate.launchers.unicore_settings import UnicoreSettings
from vsmgate.model import Launch, new_job_id

TOKEN = "t0ken-of-the-gateway"
JOB = new_job_id()


class Answering(Resource):
    """Answers everything alike; ``body`` may be a function of the path. ``silent``: not at all."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.status = 200
        self.body: bytes | Callable[[str], bytes] = b"{}"
        self.silent = False
        self.asked: list[Request] = []

    def render(self, request: Request) -> bytes | int:
        self.asked.append(request)
        if self.silent:
            request.notifyFinish().addErrback(lambda _: None)
            return NOT_DONE_YET
        request.setResponseCode(self.status)
        return self.body if isinstance(self.body, bytes) else self.body(request.path.decode())


class Engine(NamedTuple):
    """How to make a launcher of one kind, and what its engine says.

    ``make``: of a URL, a context, a timeout and a file of authorities, or None. ``expired``:
    status and body for credentials that are. ``running``: the answers of an engine where the
    job ``ref`` runs at a place of that name or address.
    """

    make: Callable[[str, Context, float, str | None], ILauncher]
    launch: Callable[[], Launch]
    ref: str
    expired: tuple[int, bytes]
    running: Callable[[str], Callable[[str], bytes]]


def kubernetes(url: str, context: Context, timeout: float, ca: str | None) -> ILauncher:
    cluster = {"server": url} | ({"certificate-authority": ca} if ca else {})
    config = {
        "current-context": "here",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": TOKEN}}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
    }
    (context.config_dir / "kubeconfig").write_text(json.dumps(config))
    settings = KubernetesSettings(kubeconfig="kubeconfig", timeout=timeout)
    return KubernetesLauncherFactory().make(settings, context)


def ecs(url: str, context: Context, timeout: float, ca: str | None) -> ILauncher:
    given = {"cluster": "vis", "ca_file": ca, "endpoint": url, "logs_endpoint": url}
    logs = {"log_group": "/vis", "log_prefix": "vis"}
    made = EcsSettings("eu-west-1", (ecs_rig.SUBNET,), **given, **logs, timeout=timeout)
    return EcsLauncherFactory().make(made, context)


def slurmrestd(url: str, context: Context, timeout: float, ca: str | None) -> ILauncher:
    plain = url.startswith("http:")
    rest = RestSettings(url, "vsmgate-of-nowhere", "token", "v0.0.38", ca, allow_http=plain)
    settings = SlurmSettings(rest=rest, timeout=timeout, accounting=False)
    return SlurmLauncherFactory().make(settings, context)


def unicore(url: str, context: Context, timeout: float, ca: str | None) -> ILauncher:
    base = f"{url}/SITE/rest/core"
    made = UnicoreSettings(base, token_file="token", ca_file=ca, timeout=timeout, poll_every=0.0)
    return UnicoreLauncherFactory().make(made, context)


def pod_at(address: str) -> Callable[[str], bytes]:
    labels = {"app.kubernetes.io/managed-by": "vsmgate", "vsmgate/job": JOB}
    notes = {"vsmgate/services": '{"renderer": ["renderer", 5000]}'}
    meta = {"name": f"vsmgate-{JOB}", "labels": labels, "annotations": notes}
    state = {"name": "renderer", "state": {"running": {}}}
    status = {"phase": "Running", "podIP": address, "containerStatuses": [state]}
    pod = {"metadata": meta, "spec": {"nodeName": "n"}, "status": status}
    body = json.dumps({"metadata": {"resourceVersion": "1"}, "items": [pod]}).encode()
    return lambda _: body


def task_at(address: str) -> Callable[[str], bytes]:
    detail = {"name": "privateIPv4Address", "value": address}
    attachment = {"type": "ElasticNetworkInterface", "details": [detail]}
    task = {"taskArn": f"arn:x/{TASK}", "lastStatus": "RUNNING", "attachments": [attachment]}
    body = json.dumps({"tasks": [task]}).encode()
    return lambda _: body


def slurm_job_on(node: str) -> Callable[[str], bytes]:
    job = {"job_id": 7, "name": f"vsmgate-{JOB}", "job_state": "RUNNING", "batch_host": node}
    body = json.dumps({"errors": [], "jobs": [job]}).encode()
    return lambda _: body


def unicore_job_on(node: str) -> Callable[[str], bytes]:
    files = {"vsmgate/ports": b"renderer 5000\n", "vsmgate/node": node.encode()}

    def answer(path: str) -> bytes:
        if path.endswith("/details"):
            return b"{}"
        _, found, name = path.partition("/files/")
        return files[name] if found else b'{"status": "RUNNING"}'

    return answer


def unauthorized() -> bytes:
    told = {"kind": "Status", "reason": "Unauthorized", "message": "robot's token has expired"}
    return json.dumps(told | {"code": 401}).encode()


TASK = "0123456789abcdef0123456789abcdef"
EXPIRED = b'{"__type": "ExpiredTokenException", "message": "robot\'s token has expired"}'
UNICORE_EXPIRED = b'{"errorMessage": "robot\'s token has expired"}'
SERVICES = {"renderer": "stays"}
ENGINES = {
    "kubernetes": Engine(
        kubernetes,
        lambda: kubernetes_rig.launch_of(kubernetes_rig.usecase_of(SERVICES)),
        f"vsmgate-{JOB}",
        (401, unauthorized()),
        pod_at,
    ),
    "ecs": Engine(
        ecs,
        lambda: ecs_rig.launch_of(ecs_rig.usecase_of(SERVICES)),
        f"{TASK};renderer=renderer:5000",
        (400, EXPIRED),
        task_at,
    ),
    "slurmrestd": Engine(
        slurmrestd,
        lambda: slurm_rig.launch_of(slurm_rig.usecase_of(SERVICES)),
        f"7:{JOB}",
        (401, b"robot's token has expired"),
        slurm_job_on,
    ),
    "unicore": Engine(
        unicore,
        lambda: unicore_rig.launch_of(unicore_rig.usecase_of(SERVICES)),
        "0cc175b9-c0f1-46b6-831c-399e26977266",
        (401, UNICORE_EXPIRED),
        unicore_job_on,
    ),
}
