"""What a simulated API server fills in, and what it refuses. Pure.

The essentials of core/v1 that a launcher meets; what is not named here passes unchecked.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from typing import Any

from vsmgate.simulators.kubernetes_objects import ApiError

__all__ = ["KINDS", "NAMESPACED", "check_fields", "merge", "normal_status", "prepare"]
__all__ += ["strategic_merge"]

Object = dict[str, Any]
Cause = tuple[str, str, str]

#: resource -> kind, short names, verbs besides those of all.
KINDS = {
    "pods": "Pod",
    "secrets": "Secret",
    "services": "Service",
    "events": "Event",
    "configmaps": "ConfigMap",
    "namespaces": "Namespace",
    "nodes": "Node",
}
NAMESPACED = {"pods", "secrets", "services", "events", "configmaps"}

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9])?")
_KEY = re.compile(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_PORT_NAME = re.compile(r"(?=.*[a-z])(?!.*--)[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?")
_QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?([EPTGMk]i?|m|e[0-9]+)?")
_BAD_NAME = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used "
    "for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)


#: The fields of parts of a pod's spec (core/v1 Toleration, and Volume as far as it is in use).
_FIELDS = {
    "tolerations": {"key", "operator", "value", "effect", "tolerationSeconds"},
    "volumes": {
        "name", "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "hostPath",
        "image", "iscsi", "nfs", "persistentVolumeClaim", "projected", "secret",
    },
}  # fmt: skip


def check_fields(given: Object) -> None:
    """Refuse what is misspelt in a pod, as ``fieldValidation=Strict`` has it."""
    unknown = [
        f'unknown field "spec.{part}[{index}].{key}"'
        for part, fields in _FIELDS.items()
        for index, one in enumerate((given.get("spec") or {}).get(part) or ())
        for key in one.keys() - fields
    ]
    if unknown:
        told = 'Pod in version "v1" cannot be handled as a Pod: strict decoding error'
        raise ApiError(400, f"{told}: {', '.join(unknown)}")


def prepare(resource: str, given: Object) -> Object:
    """Return a new object, checked and with defaults; raises `ApiError` 422."""
    meta = given.get("metadata") or {}
    kind = KINDS[resource]
    causes = [*_wrong_metadata(meta), *_CHECKS.get(resource, _nothing_wrong)(given)]
    if causes:
        told = [f"{field}: {message}" for _, message, field in causes]
        text = told[0] if len(told) == 1 else f"[{', '.join(told)}]"
        listed = [{"reason": r, "message": m, "field": f} for r, m, f in causes]
        details = {"name": meta.get("name", ""), "kind": kind, "causes": listed}
        raise ApiError(422, f'{kind} "{meta.get("name", "")}" is invalid: {text}', details)
    made = {"kind": kind, "apiVersion": "v1", **given, "metadata": dict(meta)}
    _DEFAULTS.get(resource, lambda _: None)(made)
    return made


def _wrong_metadata(meta: Object) -> Iterator[Cause]:
    name = meta.get("name") or ""
    if not name:
        yield "FieldValueRequired", "Required value: name or generateName is required", _NAME
    elif not _SUBDOMAIN.fullmatch(name) or len(name) > 253:
        yield "FieldValueInvalid", f'Invalid value: "{name}": {_BAD_NAME}', _NAME
    for key, value in (meta.get("labels") or {}).items():
        if not _KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(str(value)):
            yield "FieldValueInvalid", f'Invalid value: "{key}={value}"', "metadata.labels"
    for key in meta.get("annotations") or {}:
        if not _KEY.fullmatch(key):
            yield "FieldValueInvalid", f'Invalid value: "{key}"', "metadata.annotations"


_NAME = "metadata.name"


def _nothing_wrong(_: Object) -> Iterator[Cause]:
    return iter(())


def _wrong_pod(pod: Object) -> Iterator[Cause]:
    spec = pod.get("spec") or {}
    containers = spec.get("containers") or []
    if not containers:
        yield "FieldValueRequired", "Required value", "spec.containers"
    volumes: set[str] = set()
    for index, volume in enumerate(spec.get("volumes") or ()):
        at, name = f"spec.volumes[{index}].name", volume.get("name") or ""
        if not _LABEL.fullmatch(name):
            yield "FieldValueInvalid", f'Invalid value: "{name}"', at
        if name in volumes:
            yield "FieldValueDuplicate", f'Duplicate value: "{name}"', at
        volumes.add(name)
    names: set[str] = set()
    for index, container in enumerate(containers):
        at = f"spec.containers[{index}]"
        name = container.get("name") or ""
        if not _LABEL.fullmatch(name):
            yield "FieldValueInvalid", f'Invalid value: "{name}"', f"{at}.name"
        if name in names:
            yield "FieldValueDuplicate", f'Duplicate value: "{name}"', f"{at}.name"
        names.add(name)
        if not container.get("image"):
            yield "FieldValueRequired", "Required value", f"{at}.image"
        yield from ((r, m, f"{at}.{f}") for r, m, f in _wrong_container(container, volumes))
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not (isinstance(deadline, int) and 1 <= deadline < 2**31):
        told = f"Invalid value: {deadline}: must be between 1 and 2147483647, inclusive"
        yield "FieldValueInvalid", told, "spec.activeDeadlineSeconds"


def _wrong_container(container: Object, volumes: set[Any]) -> Iterator[Cause]:
    for index, port in enumerate(container.get("ports") or ()):
        number = port.get("containerPort")
        if not isinstance(number, int) or not 1 <= number <= 65535:
            told = f"Invalid value: {number}: must be between 1 and 65535, inclusive"
            yield "FieldValueInvalid", told, f"ports[{index}].containerPort"
        if "name" in port and not _PORT_NAME.fullmatch(port["name"]):
            told = f'Invalid value: "{port["name"]}": must be no more than 15 characters'
            yield "FieldValueInvalid", told, f"ports[{index}].name"
    for index, variable in enumerate(container.get("env") or ()):
        if not isinstance(variable.get("value", ""), str) or not variable.get("name"):
            yield "FieldValueInvalid", "Invalid value", f"env[{index}]"
        if "value" in variable and variable["value"] and "valueFrom" in variable:
            told = 'Invalid value: "": may not be specified when `value` is not empty'
            yield "FieldValueInvalid", told, f"env[{index}].valueFrom"
    paths: set[str] = set()
    for index, mount in enumerate(container.get("volumeMounts") or ()):
        path = mount.get("mountPath")
        if path in paths:
            told = f'Invalid value: "{path}": must be unique'
            yield "FieldValueInvalid", told, f"volumeMounts[{index}].mountPath"
        paths.add(path)
        if mount.get("name") not in volumes:
            yield (
                "FieldValueNotFound",
                f'Not found: "{mount.get("name")}"',
                (f"volumeMounts[{index}].name"),
            )
    resources = container.get("resources") or {}
    for kind in ("requests", "limits"):
        for resource, quantity in (resources.get(kind) or {}).items():
            if not _QUANTITY.fullmatch(str(quantity)):
                yield (
                    "FieldValueInvalid",
                    f'Invalid value: "{quantity}"',
                    (f"resources.{kind}.{resource}"),
                )


def _default_pod(pod: Object) -> None:
    spec = pod["spec"]
    for container in spec["containers"]:
        latest = ":" not in container["image"] or container["image"].endswith(":latest")
        container.setdefault("resources", {})
        container.setdefault("terminationMessagePath", "/dev/termination-log")
        container.setdefault("terminationMessagePolicy", "File")
        container.setdefault("imagePullPolicy", "Always" if latest else "IfNotPresent")
        for port in container.get("ports") or ():
            port.setdefault("protocol", "TCP")
    defaults = {
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "securityContext": {},
        "schedulerName": "default-scheduler",
        "priority": 0,
        "enableServiceLinks": True,
        "preemptionPolicy": "PreemptLowerPriority",
    }
    for key, value in defaults.items():
        spec.setdefault(key, value)
    tolerations = spec.setdefault("tolerations", [])
    for state in ("not-ready", "unreachable"):
        key = f"node.kubernetes.io/{state}"
        if all(toleration.get("key") != key for toleration in tolerations):
            tolerations.append(
                {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
            )
    asked = [container["resources"] for container in spec["containers"]]
    if not any(asked):
        quality = "BestEffort"
    elif all(one.get("limits") and one.get("requests") == one["limits"] for one in asked):
        quality = "Guaranteed"
    else:
        quality = "Burstable"
    pod["status"] = {"phase": "Pending", "qosClass": quality}


def _default_secret(secret: Object) -> None:
    data = secret.setdefault("data", {})
    for key, value in secret.pop("stringData", {}).items():
        data[key] = base64.b64encode(value.encode()).decode()
    secret.setdefault("type", "Opaque")


def _default_service(service: Object) -> None:
    spec = service["spec"]
    for port in spec.get("ports") or ():
        port.setdefault("protocol", "TCP")
        port.setdefault("targetPort", port.get("port"))
    address = spec.setdefault("clusterIP", "10.96.0.10")
    spec.setdefault("clusterIPs", [address])
    spec.setdefault("type", "ClusterIP")
    spec.setdefault("sessionAffinity", "None")
    service["status"] = {"loadBalancer": {}}


_CHECKS: dict[str, Callable[[Object], Iterator[Cause]]] = {"pods": _wrong_pod}
_DEFAULTS: dict[str, Callable[[Object], None]] = {
    "pods": _default_pod,
    "secrets": _default_secret,
    "services": _default_service,
}


def merge(old: Any, patch: Any) -> Any:
    """Apply a JSON merge patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


def strategic_merge(old: Any, patch: Any) -> Any:
    """Apply a strategic merge patch, of which only a pod's conditions are merged by a key."""
    result = merge(old, patch)
    conditions = ((patch or {}).get("status") or {}).get("conditions")
    if conditions:
        known = {c["type"]: c for c in (old.get("status") or {}).get("conditions") or ()}
        merged = [known.pop(c["type"], {}) | c for c in conditions]
        result["status"]["conditions"] = [*known.values(), *merged]
    return result


def normal_status(status: Object) -> Object:
    """Return a pod's status as the real server writes it."""
    result = {key: value for key, value in status.items() if value not in ("", None)}
    for condition in result.get("conditions") or ():
        condition.setdefault("lastProbeTime", None)
        condition.setdefault("lastTransitionTime", None)
    for container in result.get("containerStatuses") or ():
        container.setdefault("lastState", {})
    return result
