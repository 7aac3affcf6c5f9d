"""The objects of a simulated API server: versions, selectors, and what is told to watchers.

As the real one has it: one counter of versions over all objects, a bounded memory of changes,
and for a change of that memory that is gone the answer 410.
"""

from __future__ import annotations

import copy
import re
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

__all__ = ["ApiError", "Change", "Objects", "Selector", "moment", "status_of"]

Object = dict[str, Any]

_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "AlreadyExists",
    410: "Expired",
    415: "UnsupportedMediaType",
    422: "Invalid",
    500: "InternalError",
}
_REMEMBERED = 1000


class ApiError(Exception):
    """An answer that is no success."""

    def __init__(self, code: int, message: str, details: Object | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.details = details

    @property
    def body(self) -> Object:
        """The Status object that tells of it."""
        reason = _REASONS.get(self.code, "Unknown")
        return status_of("Failure", self.code, str(self), reason, self.details)


def status_of(
    status: str,
    code: int = 0,
    message: str = "",
    reason: str = "",
    details: Object | None = None,
) -> Object:
    """Return a Status object."""
    body: Object = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": status}
    for key, value in (("message", message), ("reason", reason), ("details", details)):
        if value:
            body[key] = value
    return body | ({"code": code} if code else {})


def moment(seconds: float) -> str:
    """Return a time as Kubernetes writes it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Change:
    """One change. ``type``: ADDED, MODIFIED or DELETED."""

    version: int
    type: str
    resource: str
    object: Object


class Selector:
    """A label selector and a field selector, as requests have them."""

    def __init__(self, labels: str = "", fields: str = "") -> None:
        self._labels = [_requirement(part) for part in _split(labels)]
        self._fields = [_requirement(part) for part in _split(fields)]

    def __call__(self, found: Object) -> bool:
        labels = found["metadata"].get("labels") or {}
        return all(fits(labels.get(key)) for key, fits in self._labels) and all(
            fits(str(_field(found, key) or "")) for key, fits in self._fields
        )


class Objects:
    """All objects, by resource, namespace and name. ``wall``: Unix time now."""

    def __init__(self, wall: Callable[[], float], first_version: int = 1) -> None:
        self.version = first_version
        self.watchers: list[Callable[[Change], None]] = []
        self._wall = wall
        self._all: dict[tuple[str, str, str], Object] = {}
        self._history: deque[Change] = deque(maxlen=_REMEMBERED)
        self._oldest = first_version

    def now(self) -> str:
        """Return the present time as Kubernetes writes it."""
        return moment(self._wall())

    def create(self, resource: str, namespace: str, made: Object) -> Object:
        """Add an object; raises `ApiError` when its name is taken."""
        meta = made["metadata"]
        name = meta["name"]
        if (resource, namespace, name) in self._all:
            details = {"name": name, "kind": resource}
            raise ApiError(409, f'{resource} "{name}" already exists', details)
        given = {key: value for key, value in meta.items() if key not in ("name", "namespace")}
        made["metadata"] = {
            "name": name,
            **({"namespace": namespace} if namespace else {}),
            "uid": str(uuid.uuid4()),
            "resourceVersion": "",
            "creationTimestamp": self.now(),
            **given,
        }
        return self._note("ADDED", resource, namespace, made)

    def get(self, resource: str, namespace: str, name: str) -> Object:
        """Return a copy of an object; raises `ApiError`."""
        found = self._all.get((resource, namespace, name))
        if found is None:
            details = {"name": name, "kind": resource}
            raise ApiError(404, f'{resource} "{name}" not found', details)
        return copy.deepcopy(found)

    def list(self, resource: str, namespace: str, fits: Selector) -> list[Object]:
        """Return copies of those that fit, by name; no namespace means all."""
        return [
            copy.deepcopy(found)
            for (kind, home, _), found in sorted(self._all.items())
            if kind == resource and namespace in ("", home) and fits(found)
        ]

    def replace(self, resource: str, changed: Object) -> Object:
        """Put an object in the place of the one of its name; return it."""
        namespace = changed["metadata"].get("namespace", "")
        old = self.get(resource, namespace, changed["metadata"]["name"])
        if _without_version(old) == _without_version(changed):
            return old
        return self._note("MODIFIED", resource, namespace, changed)

    def remove(self, resource: str, namespace: str, name: str) -> Object:
        """Take an object away; return it as it was."""
        return self._note("DELETED", resource, namespace, self.get(resource, namespace, name))

    def since(self, version: int, resource: str) -> Iterator[Change]:
        """Yield the changes after a version; raises `ApiError` when it is too old."""
        if version < self._oldest:
            told = f"too old resource version: {version} ({self.version})"
            raise ApiError(410, told)
        return iter([c for c in self._history if c.version > version and c.resource == resource])

    def forget_changes(self) -> None:
        """Let every earlier version be too old."""
        self._history.clear()
        self._oldest = self.version

    def _note(self, type_: str, resource: str, namespace: str, found: Object) -> Object:
        found = copy.deepcopy(found)
        self.version += 1
        found["metadata"]["resourceVersion"] = str(self.version)
        key = resource, namespace, found["metadata"]["name"]
        if type_ == "DELETED":
            del self._all[key]
        else:
            self._all[key] = found
        if len(self._history) == _REMEMBERED:
            self._oldest = self._history[0].version
        change = Change(self.version, type_, resource, copy.deepcopy(found))
        self._history.append(change)
        for watcher in list(self.watchers):
            watcher(change)
        return copy.deepcopy(found)


def _without_version(found: Object) -> Object:
    meta = {k: v for k, v in found["metadata"].items() if k != "resourceVersion"}
    return found | {"metadata": meta}


def _split(text: str) -> list[str]:
    """Return the requirements of a selector; commas inside of ``in (a,b)`` part none."""
    return [part.strip() for part in re.findall(r"[^,(]+(?:\([^)]*\))?", text) if part.strip()]


def _requirement(text: str) -> tuple[str, Callable[[str | None], bool]]:
    if match := re.fullmatch(r"(\S+)\s+(in|notin)\s+\(([^)]*)\)", text):
        values = {value.strip() for value in match[3].split(",")}
        wanted = match[2] == "in"
        return match[1], lambda found: (found in values) is wanted
    if match := re.fullmatch(r"([^!=\s]+)\s*(!=|==|=)\s*(\S*)", text):
        value, equal = match[3], match[2] != "!="
        return match[1], lambda found: (found == value) is equal
    if match := re.fullmatch(r"(!?)([^!=\s]+)", text):
        there = not match[1]
        return match[2], lambda found: (found is not None) is there
    raise ApiError(400, f'unable to parse requirement: found "{text}"')


def _field(found: Mapping[str, Any], path: str) -> Any:
    value: Any = found
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
