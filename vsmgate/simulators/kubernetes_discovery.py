"""What kubectl asks an API server first, and the tables that it prints. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from vsmgate.simulators.kubernetes_schema import KINDS, NAMESPACED

__all__ = ["static", "table"]

Object = dict[str, Any]

VERSION = {
    "major": "1",
    "minor": "31",
    "gitVersion": "v1.31.0-vsmgate",
    "gitCommit": "simulated",
    "gitTreeState": "clean",
    "buildDate": "2026-01-01T00:00:00Z",
    "goVersion": "none",
    "compiler": "none",
    "platform": "linux/amd64",
}

_VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]
_SHORT = {
    "pods": ["po"],
    "services": ["svc"],
    "events": ["ev"],
    "configmaps": ["cm"],
    "namespaces": ["ns"],
    "nodes": ["no"],
}
#: ``/api/v1``
CORE: Object = {
    "kind": "APIResourceList",
    "groupVersion": "v1",
    "resources": [
        *(
            {
                "name": name,
                "singularName": kind.lower(),
                "namespaced": name in NAMESPACED,
                "kind": kind,
                "verbs": _VERBS,
                "shortNames": _SHORT.get(name, []),
            }
            for name, kind in KINDS.items()
        ),
        *(
            {"name": f"pods/{sub}", "singularName": "", "namespaced": True, "kind": kind}
            | {"verbs": verbs}
            for sub, kind, verbs in (
                ("binding", "Binding", ["create"]),
                ("log", "Pod", ["get"]),
                ("status", "Pod", ["get", "patch", "update"]),
            )
        ),
    ],
}


def static(path: str) -> object | None:
    """Return what is always answered at ``path``; None where there is nothing such."""
    if path in ("/readyz", "/livez", "/healthz"):
        return "ok"
    groups = {"kind": "APIGroupList", "apiVersion": "v1", "groups": []}
    versions = {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
    answers = {"/version": VERSION, "/api": versions, "/apis": groups, "/api/v1": CORE}
    return answers.get(path.rstrip("/"))


def table(resource: str, found: Sequence[Object], version: str, now: float) -> Object:
    """Return objects as the table that kubectl prints (meta.k8s.io/v1)."""
    names = ["Name", "Ready", "Status", "Restarts"] if resource == "pods" else ["Name"]
    columns = [
        {"name": name, "type": "string", "format": "", "description": "", "priority": 0}
        for name in [*names, "Age"]
    ]
    rows = []
    for one in found:
        meta = one["metadata"]
        cells = [meta["name"], *(_pod_cells(one) if resource == "pods" else ())]
        partial = {
            "kind": "PartialObjectMetadata",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": meta,
        }
        rows.append({"cells": [*cells, _age(meta, now)], "object": partial})
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": version},
        "columnDefinitions": columns,
        "rows": rows,
    }


def _pod_cells(pod: Object) -> list[str]:
    status = pod.get("status") or {}
    states = status.get("containerStatuses") or []
    word = status.get("reason") or status.get("phase") or "Unknown"
    for one in states:
        for state in (one.get("state") or {}).values():
            word = state.get("reason") or word
    if pod["metadata"].get("deletionTimestamp"):
        word = "Terminating"
    ready = sum(bool(one.get("ready")) for one in states)
    return [f"{ready}/{len(pod['spec']['containers'])}", word, "0"]


def _age(meta: Object, now: float) -> str:
    made = datetime.fromisoformat(meta["creationTimestamp"]).timestamp()
    seconds = max(0, int(now - made))
    return f"{seconds}s" if seconds < 120 else f"{seconds // 60}m"
