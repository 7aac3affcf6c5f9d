"""Whether a Kubernetes cluster would take jobs."""

from __future__ import annotations

from collections.abc import Sequence

from vsmgate.errors import EngineError
from vsmgate.launchers.kubernetes_client import KubernetesClient

__all__ = ["check_kubernetes"]

#: What the gateway asks for: the Role in docs/engines/kubernetes.md.
_RIGHTS = {
    "pods": ("create", "get", "list", "watch", "patch", "delete"),
    "pods/log": ("get",),
    "secrets": ("create", "update", "delete"),
}


async def check_kubernetes(api: KubernetesClient) -> Sequence[str]:
    """Return what is wrong: with the address, the credentials, the namespace, the rights."""
    where = f"in the namespace {api.namespace!r}"
    try:
        if await api.namespace_missing():
            return [f"There is no namespace {api.namespace!r}: make it, or set namespace."]
        lacking = {
            resource: missing
            for resource, verbs in _RIGHTS.items()
            if (missing := [verb for verb in verbs if not await api.may(verb, resource)])
        }
    except EngineError as error:
        return [f"{error.detail} Check kubeconfig: the server, its authority, the credentials."]
    return [
        f"The gateway may not {', '.join(verbs)} {resource} {where}: add it to its Role."
        for resource, verbs in lacking.items()
    ]
