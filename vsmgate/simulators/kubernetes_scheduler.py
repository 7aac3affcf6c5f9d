"""Whether a simulated node has room for a pod, told in the words of the real scheduler. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = ["no_room"]

Object = dict[str, Any]

_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "k": 1e3, "M": 1e6, "G": 1e9}
_NONE = "0/1 nodes are available: 1"
_USELESS = "Preemption is not helpful for scheduling"


def no_room(pod: Object, node: Object, others: Iterable[Object]) -> str:
    """Return why ``node`` cannot take ``pod`` beside ``others``; nothing when it can."""
    selector = pod["spec"].get("nodeSelector") or {}
    labels = node["metadata"].get("labels") or {}
    if any(labels.get(key) != value for key, value in selector.items()):
        fits_not = "node(s) didn't match Pod's node affinity/selector"
        return f"{_NONE} {fits_not}. preemption: {_NONE} {_USELESS}."
    there = [one for one in others if one["spec"].get("nodeName")]
    for resource, most in node["status"]["allocatable"].items():
        wanted, used = _asked(pod, resource), sum(_asked(one, resource) for one in there)
        if wanted + used > _amount(most):
            then = "No preemption victims found for incoming pod"
            if wanted > _amount(most):
                then = _USELESS
            return f"{_NONE} Insufficient {resource}. preemption: {_NONE} {then}."
    return ""


def _asked(pod: Object, resource: str) -> float:
    if resource == "pods":
        return 1.0
    total = 0.0
    for container in pod["spec"]["containers"]:
        wanted = container.get("resources") or {}
        one = (wanted.get("requests") or {}).get(resource)
        total += _amount(one or (wanted.get("limits") or {}).get(resource) or "0")
    return total


def _amount(quantity: str) -> float:
    for unit, factor in _UNITS.items():
        if quantity.endswith(unit):
            return float(quantity.removesuffix(unit)) * factor
    return float(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)
