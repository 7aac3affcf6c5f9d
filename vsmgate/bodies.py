"""Where the body of an HTTP/1.1 message ends (RFC 9112 section 6), watched as it passes. Pure.

A body goes on as it came, so what is doubtful about its length is refused: whoever reads
it next could see another end, and take the rest for a request of its own.
"""

from __future__ import annotations

import re
from typing import Protocol

from vsmgate.errors import BadAnswer, BadRequest, GatewayError
from vsmgate.heads import RequestHead, ResponseHead

__all__ = ["Body", "Chunked", "Endless", "Sized", "request_body", "response_body"]

_LENGTH = re.compile(r"[0-9]{1,18}", re.ASCII)

# chunk-size, and an extension of printable characters (RFC 9112 section 7.1).
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[\t ]*;[\t -~]*)?\r\n")
_TRAILER_LINE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t -~\x80-\xff]*\r\n")
MAX_LINE = 1024  #: octets of one size line or trailer field
MAX_TRAILERS = 32


class Body(Protocol):
    """A body under way; `done` once all of it has passed."""

    done: bool

    def feed(self, data: bytes) -> int:
        """Return how many of these octets belong to it; fails where it is malformed."""


class Sized:
    """A body of so many octets."""

    def __init__(self, length: int) -> None:
        self._left = length
        self.done = not length

    def feed(self, data: bytes) -> int:
        taken = min(len(data), self._left)
        self._left -= taken
        self.done = not self._left
        return taken


class Endless:
    """A body that ends with its connection."""

    done = False

    def feed(self, data: bytes) -> int:
        return len(data)


class Chunked:
    """A body in the chunked coding.

    ``error``: what a malformed one fails with. ``trailers``: whether fields may follow
    it; in a request they could say what the gateway took out of its head.
    """

    def __init__(self, error: type[GatewayError], *, trailers: bool) -> None:
        self._error = error
        self._most_trailers = MAX_TRAILERS if trailers else 0
        self._data = 0  # octets of the present chunk that have not come
        self._after = False  # the line end after a chunk is due
        self._last = False  # the last chunk has come
        self._line = bytearray()
        self.done = False

    def feed(self, data: bytes) -> int:
        at, end = 0, len(data)
        while at < end and not self.done:
            if self._data:
                taken = min(self._data, end - at)
                self._data -= taken
                self._after = not self._data
                at += taken
                continue
            stop = data.find(b"\n", at) + 1 or end
            self._line += data[at:stop]
            at = stop
            if len(self._line) > MAX_LINE:
                raise self._error("A line of the chunked body is too long.")
            if self._line.endswith(b"\n"):
                self._read(bytes(self._line))
                self._line.clear()
        return at

    def _read(self, line: bytes) -> None:
        if self._after:
            self._after = False
            if line != b"\r\n":
                raise self._error("A chunk of the body is longer than it says.")
        elif not self._last:
            match = _SIZE_LINE.fullmatch(line)
            if match is None:
                raise self._error("The size of a chunk of the body is malformed.")
            self._data = int(match.group(1), 16)
            self._last = not self._data
        elif line == b"\r\n":
            self.done = True
        elif not self._most_trailers or _TRAILER_LINE.fullmatch(line) is None:
            raise self._error("The body has trailers that are not taken here.")
        else:
            self._most_trailers -= 1


def request_body(head: RequestHead) -> Body:
    """Return the body that ``head`` announces; fails with `BadRequest` where that is doubtful."""
    codings = head.all("Transfer-Encoding")
    length = head.one("Content-Length")
    if codings:
        if length is not None:
            raise BadRequest("Content-Length and Transfer-Encoding exclude each other.")
        if [coding.lower() for coding in codings] != ["chunked"]:
            raise BadRequest("The only Transfer-Encoding that is taken here is chunked.")
        return Chunked(BadRequest, trailers=False)
    if length is not None and _LENGTH.fullmatch(length) is None:
        raise BadRequest("The Content-Length header must be a number.")
    return Sized(int(length or 0))


def response_body(head: ResponseHead, method: str) -> Body:
    """Return the body of the answer ``head`` to a request of ``method``; fails with `BadAnswer`."""
    codings, lengths = head.all("Transfer-Encoding"), head.all("Content-Length")
    if codings and (lengths or [coding.lower() for coding in codings] != ["chunked"]):
        raise BadAnswer("The service's answer has a length that is not clear.")
    if any(_LENGTH.fullmatch(length) is None for length in lengths) or len(lengths) > 1:
        raise BadAnswer("The service's answer has a length that is not clear.")
    if method == "HEAD" or head.status in (204, 304):
        return Sized(0)
    if codings:
        return Chunked(BadAnswer, trailers=True)
    return Sized(int(lengths[0])) if lengths else Endless()
