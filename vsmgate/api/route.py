"""The table of routes: what is served, and everything that ``/openapi.json`` says of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from vsmgate.api.call import Call
from vsmgate.api.reply import Reply
from vsmgate.api.stream import Stream
from vsmgate.errors import GatewayError, MethodNotAllowed, NotFound

__all__ = ["Handler", "Route", "Routes"]

Handler = Callable[[Call], Awaitable[Reply | Stream]]


@dataclass(frozen=True)
class Route:
    """One method of one address.

    ``path``: segments, ``{name}`` stands for any one. ``open``: no token is needed.
    ``body`` and ``query``: the `msgspec.Struct` types that they are read into.
    ``replies``: status -> type of the JSON body, or a media type, or None for no body.
    ``refusals``: what it may fail with. ``statuses``: where an error has another status
    here than its own.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    replies: Mapping[int, type | str | None]
    refusals: tuple[type[GatewayError], ...] = ()
    statuses: Mapping[type[GatewayError], int] = field(default_factory=dict)
    body: type | None = None
    query: type | None = None
    open: bool = False

    def status(self, error: GatewayError) -> int:
        """Return the status of ``error`` here."""
        for kind, status in self.statuses.items():
            if isinstance(error, kind):
                return status
        return error.status


_Node = dict[str, Any]
_ANY = "{}"
_HERE = ""


class Routes:
    """All routes, found by walking the segments of a path."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.all = tuple(routes)
        self._root: _Node = {}
        for route in self.all:
            node, names = self._root, []
            for segment in route.path[1:].split("/"):
                key = segment
                if segment.startswith("{"):
                    names.append(segment[1:-1])
                    key = _ANY
                node = node.setdefault(key, {})
            methods = node.setdefault(_HERE, {})
            if route.method in methods:
                raise ValueError(f"two routes for {route.method} {route.path}")
            methods[route.method] = (route, tuple(names))

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]]:
        """Return the route and its path's arguments.

        HEAD finds GET. Fails with `NotFound` or `MethodNotAllowed`.
        """
        methods, values = self._walk(path)
        found = methods.get("GET" if method == "HEAD" else method)
        if found is None:
            raise MethodNotAllowed(self._names(methods))
        route, names = found
        return route, dict(zip(names, values, strict=True))

    def allowed(self, path: str) -> tuple[str, ...]:
        """Return the methods of an address; fail with `NotFound`."""
        return self._names(self._walk(path)[0])

    def _walk(self, path: str) -> tuple[_Node, list[str]]:
        node, values = self._root, []
        for segment in path[1:].split("/"):
            child = node.get(segment) if segment else None
            if child is None and segment and _ANY in node:
                child = node[_ANY]
                values.append(unquote(segment) if "%" in segment else segment)
            if child is None:
                raise NotFound("There is nothing at this address; /openapi.json lists what is.")
            node = child
        methods = node.get(_HERE)
        if methods is None:
            raise NotFound("There is nothing at this address; /openapi.json lists what is.")
        return methods, values

    @staticmethod
    def _names(methods: Mapping[str, object]) -> tuple[str, ...]:
        names = sorted(methods)
        if "GET" in names:
            names.insert(names.index("GET") + 1, "HEAD")
        return tuple(names)
