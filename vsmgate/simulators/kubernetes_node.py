"""What a simulated node says of itself and of containers, as objects of the API. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["container_state", "expand", "node_object", "plain_image"]

Object = dict[str, Any]
_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)")


def node_object(name: str, room: Mapping[str, str]) -> Object:
    """Return the Node. ``room``: resource -> what there is."""
    capacity = {**room, "pods": "110"}
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
    return {
        "kind": "Node",
        "apiVersion": "v1",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "spec": {},
        "status": {"capacity": capacity, "allocatable": capacity, "conditions": [ready]},
    }


def container_state(container: Object, which: str, how: Object) -> Object:
    """Return a container's status. ``which``: waiting, running or terminated."""
    return {
        "name": container["name"],
        "state": {which: how},
        "ready": which == "running",
        "restartCount": 0,
        "image": container["image"],
        "imageID": "" if which == "waiting" else "simulated",
    }


def expand(text: str, environment: Mapping[str, str]) -> str:
    """Replace ``$(NAME)`` as Kubernetes does: unknown ones stay, ``$$`` is a dollar."""

    def value(match: re.Match[str]) -> str:
        return "$" if match[1] is None else environment.get(match[1], match[0])

    return _REFERENCE.sub(value, text)


def plain_image(image: str) -> str:
    """Return an image's name without registry defaults, tag and digest."""
    name = image.partition("@")[0].removeprefix("docker.io/").removeprefix("library/")
    head, slash, last = name.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"
