"""What a session sends: each mix is a closed loop of questions and answers. Pure.

A mix is asked for what to send when the session opens and after each message; it says which
answer ended which question. Questions are JSON-RPC requests that a Brayns service answers
and an echo service sends back, so both kinds of service can be loaded.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from math import cos, sin
from typing import Any, Protocol

__all__ = ["MIXES", "BraynsPull", "Mix", "Pipeline", "Reading"]

#: Text or octets, sent as a text or a binary message.
Message = str | bytes


class Reading:
    """What a message meant: ``ended`` is the id of the question that it answers, if any.

    ``error``: the kind, when the service refused the question.
    """

    def __init__(self, ended: int | None = None, error: str = "") -> None:
        self.ended = ended
        self.error = error


class Mix(Protocol):
    """One session's dialogue; questions are numbered from 1."""

    def first(self) -> Iterator[tuple[int, Message]]:
        """Yield the questions that open the dialogue."""

    def then(self) -> Iterator[tuple[int, Message]]:
        """Yield the questions that follow an answer."""

    def read(self, message: bytes, binary: bool) -> Reading:
        """Say what a received message meant."""


def read_answer(message: bytes, binary: bool) -> Reading:
    """Read a JSON-RPC answer: text, or binary with the JSON's length in front (Brayns)."""
    if binary and len(message) >= 4:
        length = int.from_bytes(message[:4], "little")
        message = message[4 : 4 + length]
    try:
        said = json.loads(message)
    except ValueError:
        return Reading(error="answer: not JSON")
    number = said.get("id") if isinstance(said, dict) else None
    if not isinstance(number, int):
        return Reading()  # a notification, or progress
    if isinstance(said.get("error"), dict):
        return Reading(number, f"answer: {said['error'].get('message', 'an error')}")
    return Reading(number)


class Pipeline:
    """``window`` questions of ``size`` octets are under way at any time."""

    def __init__(self, size: int, window: int) -> None:
        self._size = size
        self._window = window
        self._number = 0

    def first(self) -> Iterator[tuple[int, Message]]:
        for _ in range(self._window):
            yield from self.then()

    def then(self) -> Iterator[tuple[int, Message]]:
        self._number += 1
        # White space after a JSON text means nothing, so a question may be of any size.
        yield self._number, _request(self._number, "get-version").ljust(self._size)

    def read(self, message: bytes, binary: bool) -> Reading:
        return read_answer(message, binary)


class BraynsPull:
    """As the web client does: move the camera, then pull an image, again and again."""

    def __init__(self) -> None:
        self._number = 0

    def first(self) -> Iterator[tuple[int, Message]]:
        return self.then()

    def then(self) -> Iterator[tuple[int, Message]]:
        self._number += 1
        angle = self._number / 20
        view = {
            "position": [30 * sin(angle), 5, 30 * cos(angle)],
            "target": [0, 0, 0],
            "up": [0, 1, 0],
        }
        # Its answer has an id that is no question's: only pictures are counted.
        yield 0, _request(-self._number, "set-camera-view", view)
        image = {"format": "jpg", "jpeg_quality": 70, "force": True}
        yield self._number, _request(self._number, "render-image", image)

    def read(self, message: bytes, binary: bool) -> Reading:
        reading = read_answer(message, binary)
        if reading.ended is not None and reading.ended < 0:
            return Reading(error=reading.error)
        return reading


def _request(number: int, method: str, params: Any = None) -> str:
    request = {"jsonrpc": "2.0", "id": number, "method": method}
    if params is not None:
        request["params"] = params
    return json.dumps(request)


def make_mix(name: str, size: int | None) -> Mix:
    """Return a new session's mix; ``size``: octets of a question, where that is free."""
    if name == "echo":
        return Pipeline(size or 64, 1)
    if name == "stream":
        return Pipeline(size or 65536, 8)
    return BraynsPull()


MIXES = ("echo", "stream", "brayns")
