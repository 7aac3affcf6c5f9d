"""``[launchers.NAME]`` with ``kind = "kubernetes"``."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from vsmgate.model import Seconds

__all__ = ["KubernetesSettings"]

Label = Annotated[str, Meta(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]


class KubernetesSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[launchers.NAME]`` with ``kind = "kubernetes"``; docs/engines/kubernetes.md explains each.

    ``kubeconfig``: a file, from the configuration's folder on; without it, the service account
    of the pod that the gateway runs in. ``context``: one of the file's, instead of its current
    one. ``namespace``: where pods run; empty for the credentials' own. ``bind``: what services
    are told to listen at; ``{pod}`` in it is the pod's address. ``python``: ``{python}`` of
    use cases, in images. ``grace``: seconds between a pod's SIGTERM and SIGKILL.
    """

    kubeconfig: str | None = None
    context: str = ""
    namespace: Label | None = None
    bind: str = "0.0.0.0"
    python: str = "python3"
    grace: Annotated[int, Meta(ge=0, le=3600)] = 10
    timeout: Seconds = 20.0
