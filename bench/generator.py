"""The load generator as an object: one process on its own core, asked line by line."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from bench.machine import Unavailable

__all__ = ["Generator", "Refused", "request_head"]


class Refused(Exception):
    """A relay did not do what was asked; the text says what the generator saw."""


class Generator:
    """``generator.c`` says what can be asked; answers are its objects."""

    def __init__(self, program: Path, core: int) -> None:
        self._process = subprocess.Popen(
            [str(program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )
        hello = self._answer()
        #: Where its services listen, and whether it speaks TLS.
        self.port: int = hello["port"]
        self.tls: bool = hello["tls"]

    def ask(self, *words: object, raw: bytes = b"") -> dict[str, Any]:
        """Return the answer to a command; raises `Refused`."""
        assert self._process.stdin is not None
        line = " ".join(str(int(word) if isinstance(word, bool) else word) for word in words)
        self._process.stdin.write(line.encode() + b"\n" + raw)
        answer = self._answer()
        if "error" in answer:
            raise Refused(answer["error"])
        return answer

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise Unavailable(f"the load generator ended with status {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def request_head(path: str, token: str) -> bytes:
    """Return the request head that every client sends; the key is RFC 6455's example."""
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: localhost",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
        f"Authorization: Bearer {token}",
    ]
    return "\r\n".join([*lines, "", ""]).encode("ascii")
