"""What the gateway calls an ECS task, with all that it must know of it later."""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["CONTAINER", "EcsRef", "Place"]

#: The name of a container in a task definition.
CONTAINER = re.compile(r"[A-Za-z0-9_-]{1,255}", re.ASCII)
_TASK = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_PART = re.compile(r"([a-z0-9_-]{1,63})=([A-Za-z0-9_-]{1,255}):([1-9][0-9]{0,4})", re.ASCII)


class Place(NamedTuple):
    """Where a service runs in its task."""

    service: str
    container: str
    port: int


class EcsRef(NamedTuple):
    """The engine ref of a task: ``TASK;SERVICE=CONTAINER:PORT;...``.

    ``task``: the last part of its ARN; account, region and cluster are the launcher's. ECS
    forgets a task an hour after its end, and its logs are wanted for longer: so the ref
    itself tells the names of its containers.
    """

    task: str
    places: tuple[Place, ...]

    @classmethod
    def parse(cls, ref: str) -> EcsRef | None:
        """Return the parts of a ref; None when it is none."""
        task, *parts = ref.split(";")
        matches = [_PART.fullmatch(part) for part in parts]
        if not _TASK.fullmatch(task) or not parts or not all(matches):
            return None
        places = tuple(Place(m[1], m[2], int(m[3])) for m in matches if m)
        return cls(task, places) if all(place.port <= 65535 for place in places) else None

    @classmethod
    def of(cls, arn: str, places: tuple[Place, ...]) -> EcsRef | None:
        """Return the ref of the task with that ARN; None when it is no task's."""
        ref = cls(arn.rpartition("/")[2], places)
        return ref if cls.parse(str(ref)) else None

    def __str__(self) -> str:
        places = (f"{p.service}={p.container}:{p.port}" for p in self.places)
        return ";".join([self.task, *places])
