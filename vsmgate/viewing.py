"""Clients that may only look: what of their frames goes on to the service.

Frame heads alone can keep a client from sending anything (``view = "receive"``). Where a
picture must be asked for, and the service speaks JSON-RPC, the whole messages of such clients, and
of no others, are read here: ``view = "jsonrpc"`` and ``"brayns"`` let requests of
declared methods on. What cannot be read for certain is refused, never guessed at: another
reader might read it otherwise, and find another method in it.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, NoReturn

from vsmgate.frames import BINARY, FrameTracker, Violation, masked
from vsmgate.model import Pings, Service, View
from vsmgate.rewriter import FrameRewriter

__all__ = ["REFUSED", "VIEW_MESSAGE", "method_of", "reads_messages", "view_tracker"]

#: The close code that tells a client that it sent what it may not.
REFUSED = 4403

#: The longest message that is read: 64 KiB.
VIEW_MESSAGE = 65536

_MEMBERS = frozenset({"jsonrpc", "id", "method", "params"})


def reads_messages(spec: Service) -> bool:
    """Whether messages of clients that only look are read, so that none may be compressed."""
    return spec.view in (View.JSONRPC, View.BRAYNS)


def view_tracker(spec: Service, compressed: bool) -> FrameTracker:
    """Return what follows the frames of a client that only looks at the service ``spec``."""
    return ViewTracker(
        compressed=compressed,
        answer_pings=spec.pings is Pings.ANSWER,
        methods=spec.view_methods if reads_messages(spec) else (),
        binary=spec.view is View.BRAYNS,
        longest=min(VIEW_MESSAGE, spec.max_message or VIEW_MESSAGE),
    )


class ViewTracker(FrameRewriter):
    """Lets pings, a Close, and requests of ``methods`` on; anything else is a violation.

    A message of at most ``longest`` octets goes on whole, and as one frame. ``binary``: also
    Brayns' binary messages. Without ``methods`` the head of any data frame is enough to refuse it.
    """

    __slots__ = ("_binary", "_methods")

    _holds_all = True

    def __init__(
        self,
        *,
        compressed: bool,
        answer_pings: bool,
        methods: Collection[str],
        binary: bool,
        longest: int,
    ) -> None:
        super().__init__(compressed=compressed, answer_pings=answer_pings, collect=longest)
        self._methods = frozenset(methods)
        self._binary = binary

    def _collect_from(self, data: bytes, at: int, end: int) -> int:
        if not self._methods:
            raise Violation(REFUSED, "you may only look: this service takes nothing from you")
        return super()._collect_from(data, at, end)

    def _inspect(self, message: bytearray) -> None:
        binary = self._head & 0x0F == BINARY
        if binary and not self._binary:
            raise Violation(REFUSED, "you may only look: binary messages are not taken")
        method = method_of(masked(bytes(message), self._key), binary)
        if method is None:
            raise Violation(REFUSED, "you may only look: this is no plain JSON-RPC request")
        if method not in self._methods:
            raise Violation(REFUSED, "you may only look: this method is not for viewers")


def method_of(message: bytes, binary: bool) -> str | None:
    """Return the method of a JSON-RPC 2.0 request; None: it is not certainly one.

    ``binary``: in Brayns' layout, 4 octets with the length of the JSON (little-endian), the
    JSON, and a payload. Batches, members that JSON-RPC does not know or that come
    twice, and whatever else some parsers take and others do not, are no requests here.
    """
    if binary:
        end = 4 + int.from_bytes(message[:4], "little")
        if not 4 < end <= len(message):
            return None
        message = message[4:end]
    try:
        request = json.loads(
            message.decode("utf-8"), object_pairs_hook=_Members, parse_constant=_refuse
        )
    except (ValueError, RecursionError):
        return None
    if not isinstance(request, _Members):
        return None
    members = dict(request)
    method = members.get("method")
    if len(members) < len(request) or not _MEMBERS.issuperset(members):
        return None
    if members.get("jsonrpc", "2.0") != "2.0" or not isinstance(method, str):
        return None
    return method


class _Members(list[tuple[str, Any]]):
    """An object's members as they came; a dict would hide one that comes twice."""


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")
