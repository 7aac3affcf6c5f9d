"""A WebSocket client made of a socket: it sends what a library would not."""

from __future__ import annotations

import json
import os
import socket
import struct
from dataclasses import dataclass
from typing import Any

TEXT, BINARY, CLOSE, PING, PONG, CONTINUATION = 1, 2, 8, 9, 10, 0


@dataclass(frozen=True)
class Received:
    opcode: int
    final: bool
    payload: bytes


class RawClient:
    """Blocking, with a timeout in seconds for every wait."""

    def __init__(self, port: int, timeout: float = 10.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout)
        self._data = b""

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def get(self, path: str, **headers: str) -> str:
        """Send a request; the answer's head."""
        self.ask(path, **headers)
        return self.head()

    def ask(self, path: str, **headers: str) -> None:
        lines = [f"GET {path} HTTP/1.1", "Host: localhost"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode())

    def upgrade(self, path: str = "/", **headers: str) -> str:
        return self.get(path, **self.handshake(), **headers)

    @staticmethod
    def handshake() -> dict[str, str]:
        return {
            "Connection": "keep-alive, Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        }

    def head(self) -> str:
        while b"\r\n\r\n" not in self._data:
            self._receive()
        head, _, self._data = self._data.partition(b"\r\n\r\n")
        return head.decode()

    def body(self, size: int) -> bytes:
        while len(self._data) < size:
            self._receive()
        body, self._data = self._data[:size], self._data[size:]
        return body

    def _receive(self) -> None:
        more = self.socket.recv(1 << 20)
        if not more:
            raise EOFError(self._data)
        self._data += more

    def send(self, opcode: int, payload: bytes, final: bool = True) -> None:
        size = len(payload)
        if size < 126:
            length = struct.pack("!B", 0x80 | size)
        elif size < 65536:
            length = struct.pack("!BH", 0x80 | 126, size)
        else:
            length = struct.pack("!BQ", 0x80 | 127, size)
        mask = os.urandom(4)
        masked = bytes(octet ^ mask[i % 4] for i, octet in enumerate(payload))
        self.socket.sendall(bytes([opcode | (0x80 if final else 0)]) + length + mask + masked)

    def receive(self) -> Received:
        first, second = self.body(2)
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", self.body(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", self.body(8))
        return Received(first & 15, bool(first & 128), self.body(size))

    def ended(self) -> bool:
        """Wait for the end of the connection; False when something else comes first."""
        try:
            return not self._data and not self.socket.recv(1)
        except ConnectionResetError:
            return True

    def silent(self, seconds: float) -> bool:
        """Whether nothing at all comes for so long."""
        before = self.socket.gettimeout()
        self.socket.settimeout(seconds)
        try:
            self.socket.recv(1)
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(before)
        return False

    # JSON-RPC -----------------------------------------------------------------

    def request(self, method: str, params: Any = None, id: int | str | None = 1) -> None:
        """A request as the web clients send it: in a binary frame."""
        message = {"jsonrpc": "2.0", "method": method, "params": params, "id": id}
        text = json.dumps({k: v for k, v in message.items() if v is not None}).encode()
        self.send(BINARY, len(text).to_bytes(4, "little") + text)

    def reply(self) -> tuple[dict[str, Any], bytes]:
        """The next message and its payload."""
        frame = self.receive()
        if frame.opcode == TEXT:
            return json.loads(frame.payload), b""
        assert frame.opcode == BINARY
        size = int.from_bytes(frame.payload[:4], "little")
        return json.loads(frame.payload[4 : 4 + size]), frame.payload[4 + size :]

    def call(self, method: str, params: Any = None, id: int | str = 1) -> Any:
        self.request(method, params, id)
        message, _ = self.reply()
        assert message["id"] == id
        return message.get("result", message.get("error"))
