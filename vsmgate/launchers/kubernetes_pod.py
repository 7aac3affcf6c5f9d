"""The pod of a job, and its secret, as the Kubernetes API takes them. Pure.

Nothing of a user is a name, an image or a shell's: their values are arguments and
environment, where Kubernetes itself would expand ``$(NAME)``; so every dollar is doubled.
"""

from __future__ import annotations

import math
import re
from typing import Any

from msgspec import json

from vsmgate.launchers.kubernetes_plan import (
    ContainerPlan,
    KubernetesPlan,
    Security,
    container_names,
    ports_of,
)
from vsmgate.model import Endpoint, Launch, Secret
from vsmgate.templates import names_of, render_command, render_environment

__all__ = ["JOB_LABEL", "MANAGED", "SECRET_KEY", "SERVICES", "render_pod", "render_secret"]

#: The labels of what is ours, and of one job's.
MANAGED = ("app.kubernetes.io/managed-by", "vsmgate")
JOB_LABEL = "vsmgate/job"
#: Annotations: whose it is, and service -> ``[container, port]`` as JSON.
OWNER = "vsmgate/owner"
SERVICES = "vsmgate/services"
SECRET_KEY = "secret"

#: An empty folder of the job's own is mounted there in each container: ``{directory}``.
DIRECTORY = "/tmp"
_DIRECTORY_VOLUME = "vsmgate-tmp"
_PORT_NAME = re.compile(r"(?!.*--)(?=.*[a-z])[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?", re.ASCII)


def render_secret(launch: Launch, secret: Secret) -> dict[str, Any]:
    """Return the Secret that holds what the gateway shows to a job's services."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {"name": launch.tag, "labels": _labels(launch)},
        "stringData": {SECRET_KEY: secret.reveal()},
    }


def render_pod(launch: Launch, *, bind: str, python: str, grace: int) -> dict[str, Any]:
    """Return the Pod of a job; raises `BadParameters` for values that cannot be arguments."""
    plan: KubernetesPlan = launch.plan
    containers = container_names(launch.usecase.services, plan)
    ports = ports_of(launch.usecase)
    places = {name: (containers[name], ports[name]) for name in ports}
    annotations = {
        **plan.annotations,
        OWNER: launch.owner,
        SERVICES: json.encode(places).decode(),
    }
    writer = _Writer(launch, ports, bind, python)
    if plan.container is not None:
        made = [writer.container(next(iter(places.values()))[0], plan.container, list(ports))]
    else:
        made = [writer.container(containers[n], plan.services[n], [n]) for n in ports]
    spec = {
        "restartPolicy": "Never",
        # One second is how a job that has lost a service is ended; see kubernetes_reasons.
        "activeDeadlineSeconds": max(2, math.ceil(launch.lifetime)),
        "terminationGracePeriodSeconds": grace,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "serviceAccountName": plan.service_account,
        "priorityClassName": plan.priority_class,
        "runtimeClassName": plan.runtime_class,
        "nodeSelector": plan.node_selector,
        "tolerations": list(plan.tolerations),
        "imagePullSecrets": [{"name": name} for name in plan.pull_secrets],
        "securityContext": _pod_security(plan.security),
        "containers": made,
        "volumes": [
            *({"name": name, **source} for name, source in plan.volumes.items()),
            {"name": _DIRECTORY_VOLUME, "emptyDir": {}},
        ],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": launch.tag,
            "labels": {**plan.labels, **_labels(launch)},
            "annotations": annotations,
        },
        "spec": _given(spec),
    }


class _Writer:
    """Writes the containers of one pod."""

    def __init__(self, launch: Launch, ports: dict[str, int], bind: str, python: str) -> None:
        self._launch = launch
        self._ports = ports
        # The pod's address is known to Kubernetes only: the mark, which nobody could know when
        # parameters were chosen, becomes a reference to a variable.
        self._mark = f"<pod {launch.job_id}>"
        self._host = bind.replace("{pod}", self._mark)
        self._python = python

    def container(self, name: str, how: ContainerPlan, services: list[str]) -> dict[str, Any]:
        plan: KubernetesPlan = self._launch.plan
        names = self._names(services[0])
        mounts = [{"name": volume, "mountPath": path} for volume, path in how.mounts.items()]
        if DIRECTORY not in how.mounts.values():
            mounts.append({"name": _DIRECTORY_VOLUME, "mountPath": DIRECTORY})
        return _given(
            {
                "name": name,
                "image": how.image,
                "imagePullPolicy": how.pull_policy,
                "command": self._words(render_command(how.command, names)),
                "args": self._words(render_command(how.arguments, names)),
                "workingDir": how.directory,
                "env": self._environment(how, names, services),
                "ports": [_port(service, self._ports[service]) for service in services],
                "resources": _given({"requests": how.requests, "limits": how.limits}),
                "volumeMounts": mounts,
                "securityContext": _security(plan.security),
                # The last words of a container that failed are then in its status.
                "terminationMessagePolicy": "FallbackToLogsOnError",
            }
        )

    def _names(self, service: str) -> dict[str, Any]:
        return names_of(
            service,
            {name: Endpoint(self._host, port) for name, port in self._ports.items()},
            self._launch.parameters,
            job=self._launch.job_id,
            owner=self._launch.owner,
            python=self._python,
            directory=DIRECTORY,
        )

    def _environment(
        self, how: ContainerPlan, names: dict[str, Any], services: list[str]
    ) -> list[dict[str, Any]]:
        launch = self._launch
        values = {"VSMGATE_TAG": launch.tag, "VSMGATE_JOB": launch.job_id}
        values["VSMGATE_HOST"] = self._host
        if len(services) == 1:
            values["VSMGATE_SERVICE"] = services[0]
            values["VSMGATE_PORT"] = str(self._ports[services[0]])
        for name, port in self._ports.items():
            values[f"VSMGATE_PORT_{name.upper().replace('-', '_')}"] = str(port)
        values |= render_environment(how.environment, names)
        # Variables can only refer to earlier ones.
        made = [_from("VSMGATE_POD_IP", "fieldRef", {"fieldPath": "status.podIP"})]
        if launch.secret is not None:
            reference = {"name": launch.tag, "key": SECRET_KEY}
            made.append(_from("VSMGATE_SECRET", "secretKeyRef", reference))
        made += ({"name": key, "value": self._word(value)} for key, value in values.items())
        return made

    def _words(self, argv: list[str]) -> list[str]:
        return [self._word(part) for part in argv]

    def _word(self, text: str) -> str:
        return text.replace("$", "$$").replace(self._mark, "$(VSMGATE_POD_IP)")


def _labels(launch: Launch) -> dict[str, str]:
    key, value = MANAGED
    return {key: value, JOB_LABEL: launch.job_id, "vsmgate/usecase": launch.usecase.name}


def _port(service: str, port: int) -> dict[str, Any]:
    named = {"name": service} if _PORT_NAME.fullmatch(service) else {}
    return {**named, "containerPort": port, "protocol": "TCP"}


def _from(name: str, source: str, reference: dict[str, str]) -> dict[str, Any]:
    return {"name": name, "valueFrom": {source: reference}}


def _pod_security(security: Security) -> dict[str, Any]:
    return {
        "runAsNonRoot": security.run_as_non_root,
        "seccompProfile": {"type": security.seccomp},
        **_given(
            {
                "runAsUser": security.run_as_user,
                "runAsGroup": security.run_as_group,
                "fsGroup": security.fs_group,
            }
        ),
    }


def _security(security: Security) -> dict[str, Any]:
    capabilities = {"drop": ["ALL"], "add": list(security.add_capabilities)}
    return {
        "allowPrivilegeEscalation": security.allow_privilege_escalation,
        "readOnlyRootFilesystem": security.read_only_root,
        "capabilities": _given(capabilities),
    }


def _given(values: dict[str, Any]) -> dict[str, Any]:
    """Return those that say something."""
    return {key: value for key, value in values.items() if value not in (None, [], {}, ())}
