"""JSON-RPC 2.0 as Brayns and its backend speak it over WebSocket messages.

A text message is JSON. A binary message is a little-endian uint32, the size of the JSON in
octets, then the JSON in UTF-8, then a payload. Replies are text unless they carry a
payload. A request without id gets no reply; a progress message has no id of its own but
names the request's in its parameters. Values in, values out.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from enum import Enum
from typing import Any

__all__ = [
    "Frame",
    "InternalError",
    "InvalidParams",
    "InvalidRequest",
    "Kind",
    "MethodNotFound",
    "ParseError",
    "Request",
    "RequestId",
    "RpcError",
    "TaskCancelled",
    "error_frame",
    "parse_request",
    "progress_frame",
    "reply_frame",
]

RequestId = int | str
PREFIX = 4


class Kind(Enum):
    """What kind of frame a request came in. ``OTHER``: a continuation."""

    TEXT = "text"
    BINARY = "binary"
    OTHER = "other"


@dataclass(frozen=True)
class Frame:
    """A message to send."""

    data: bytes
    binary: bool


@dataclass(frozen=True)
class Request:
    """A request; ``id`` is None when no reply is wanted."""

    method: str
    params: Any = None
    id: RequestId | None = None
    payload: bytes = b""


class RpcError(Exception):
    """A failure that the client is told."""

    code = -32603

    def __init__(self, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.message = message
        self.data = data


class ParseError(RpcError):
    """The message holds no JSON."""

    code = -32700


class InvalidRequest(RpcError):
    """The JSON is no request."""

    code = -32600


class MethodNotFound(RpcError):
    """There is no such method."""

    code = -32601

    def __init__(self, method: str) -> None:
        super().__init__(f"Method '{method}' not found")


class InvalidParams(RpcError):
    """The parameters do not fit. ``data``: a list of sentences, when there are several."""

    code = -32602


class InternalError(RpcError):
    """It went wrong on our side."""


class TaskCancelled(RpcError):
    """The client cancelled the request."""

    code = 20

    def __init__(self) -> None:
        super().__init__("Task has been cancelled")


def parse_request(kind: Kind, data: bytes, versioned: bool = True) -> Request:
    """Read one message.

    ``versioned``: ``"jsonrpc": "2.0"`` is mandatory (Brayns) or may be left out (backend).
    Raises `ParseError` or `InvalidRequest`.
    """
    if kind is Kind.OTHER:
        raise InvalidRequest("Expected text or binary request")
    payload = b""
    if kind is Kind.BINARY:
        size = int.from_bytes(data[:PREFIX], "little")
        if len(data) < PREFIX:
            raise ParseError("Invalid JSON: 'binary message too short for the size of its JSON'")
        if size > len(data) - PREFIX:
            raise ParseError(f"Invalid JSON: 'its size, {size}, is more than the message holds'")
        payload = bytes(data[PREFIX + size :])
        data = data[PREFIX : PREFIX + size]
    message = _parse_json(data)
    problems = list(_problems(message, versioned))
    if problems:
        raise InvalidRequest("Invalid JSON-RPC request schema", problems)
    return Request(message["method"], message.get("params"), message.get("id"), payload)


def _parse_json(data: bytes) -> Any:
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_reject, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise ParseError(f"Invalid JSON: '{error}'") from None


def _reject(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is out of range")
    return value


def _problems(message: Any, versioned: bool) -> list[str]:
    if not isinstance(message, dict):
        return ["a request is an object"]
    problems = []
    version = message.get("jsonrpc", None if versioned else "2.0")
    if version != "2.0":
        problems.append(f"jsonrpc: expected '2.0', not {version!r}")
    if not isinstance(message.get("method"), str) or not message["method"]:
        problems.append("method: expected the name of a method")
    identity = message.get("id")
    if identity is not None and (isinstance(identity, bool) or not isinstance(identity, int | str)):
        problems.append("id: expected an integer or a string")
    return problems


def reply_frame(identity: RequestId, result: Any, payload: bytes = b"") -> Frame:
    """The reply to a request: binary when there is a payload."""
    text = _render({"jsonrpc": "2.0", "id": identity, "result": result})
    if not payload:
        return Frame(text, binary=False)
    return Frame(len(text).to_bytes(PREFIX, "little") + text + payload, binary=True)


def error_frame(identity: RequestId | None, error: RpcError) -> Frame:
    """An error; without an id it concerns a message that could not be read."""
    content = {"code": error.code, "message": error.message}
    if error.data is not None:
        content["data"] = error.data
    return Frame(_render({"jsonrpc": "2.0", "id": identity, "error": content}), binary=False)


def progress_frame(request: Request, operation: str, amount: float) -> Frame:
    """How far a request is; ``amount`` from 0 to 1."""
    params = {"id": request.id, "operation": operation, "amount": amount}
    message = {"jsonrpc": "2.0", "method": request.method, "params": params}
    return Frame(_render(message), binary=False)


def _render(message: Any) -> bytes:
    return json.dumps(message, allow_nan=False, separators=(",", ":")).encode()
