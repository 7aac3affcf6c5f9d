"""The methods of a program: their names, their schemas, and how one is called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vsmgate.demo.jsonrpc import InvalidParams, MethodNotFound, Request
from vsmgate.demo.schemas import Schema, check

__all__ = ["Entrypoint", "Outcome", "Registry", "Reply"]


@dataclass(frozen=True)
class Reply:
    """A result that carries a payload."""

    result: Any
    payload: bytes = b""


# A result, a `Reply`, or `Steps` whose result is one of them.
Outcome = Any


@dataclass(frozen=True)
class Entrypoint:
    """One method.

    ``handle``: gets the checked parameters (None when ``params`` is None) and the payload;
    gives an `Outcome`. ``cancellable``: works in steps, reports progress, and a client may
    cancel it ("async", as Brayns says).
    """

    name: str
    description: str
    handle: Callable[[Any, bytes], Outcome]
    params: Schema | None = None
    returns: Schema | None = None
    cancellable: bool = False


class Registry:
    """The methods by name, in the order they were added."""

    def __init__(self) -> None:
        self._entrypoints: dict[str, Entrypoint] = {}

    def add(self, *entrypoints: Entrypoint) -> None:
        """Add methods; a name may be added once."""
        for entrypoint in entrypoints:
            if entrypoint.name in self._entrypoints:
                raise ValueError(f"method {entrypoint.name!r} is there already")
            self._entrypoints[entrypoint.name] = entrypoint

    @property
    def names(self) -> list[str]:
        """All names."""
        return list(self._entrypoints)

    def find(self, name: str) -> Entrypoint:
        """The method of that name. Raises `MethodNotFound`."""
        try:
            return self._entrypoints[name]
        except KeyError:
            raise MethodNotFound(name) from None

    def call(self, request: Request) -> Outcome:
        """Check the parameters and call the method."""
        entrypoint = self.find(request.method)
        if entrypoint.params is None:
            if request.params not in (None, {}, []):
                raise InvalidParams(f"Method '{request.method}' takes no parameters")
            return entrypoint.handle(None, request.payload)
        params = {} if request.params is None else request.params
        return entrypoint.handle(check(params, entrypoint.params), request.payload)
