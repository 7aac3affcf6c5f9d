"""HTTP/1.1 heads, read strictly (RFC 9112), and written back. Pure.

::

    GET /JOB/renderer?view=1 HTTP/1.1 CRLF        a `RequestHead`
    Host: vis.example.org CRLF
    CRLF
    octets of whatever follows                    `HeadReader.rest`

A proxy that is lenient where its neighbour is not can be talked into seeing another
request than the neighbour sees. So what is doubtful is refused: a CR or LF alone, folded
lines, a space before a colon, control characters, other versions, absolute targets.
Everything is `str` (ISO-8859-1) from here on; octets only go in and come out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Generic, NoReturn, TypeVar

from msgspec import Struct

from vsmgate.errors import (
    BadAnswer,
    BadHandshake,
    BadRequest,
    GatewayError,
    HeadTooLarge,
    UriTooLong,
)

__all__ = [
    "MAX_HEAD",
    "MAX_HEADERS",
    "MAX_TARGET",
    "HeadReader",
    "RequestHead",
    "ResponseHead",
    "answer_reader",
    "parse_answer",
    "parse_request",
    "parse_response",
    "request_reader",
    "response_reader",
]

MAX_HEAD = 16384  #: octets, with the empty line
MAX_TARGET = 4096  #: octets
MAX_HEADERS = 64

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile(rf"({_TOKEN}) (/[!\"$-~]*) HTTP/1\.1")  # printable, without "#"
_STATUS_LINE = re.compile(r"HTTP/1\.[01] ([1-9][0-9]{2})(?: ([\t -~\x80-\xff]*))?")
_FIELD = re.compile(
    rf"({_TOKEN}):[\t ]*((?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?)[\t ]*"
)
_HOST = re.compile(r"(?:[A-Za-z0-9._~%!$&'()*+,;=-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")

# What no head may hold: a control character that is no part of CR LF. A CR at the very end is
# not judged before its successor arrives. (A set that comes first is searched for fastest.)
_BAD = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f](?<!\r\n)(?:(?<!\r)|(?=[^\n]))")
_LONG_TARGET = re.compile(rb"[^ \r\n]* [^ \r\n]{%d}" % (MAX_TARGET + 1))

Pairs = tuple[tuple[str, str], ...]


class _Head(Struct, frozen=True, kw_only=True, dict=True):
    """The headers of a message, in order; names compare in any case."""

    headers: Pairs = ()

    @cached_property
    def by_name(self) -> Mapping[str, tuple[str, ...]]:
        """Every header's values; the names are in lower case."""
        found: dict[str, tuple[str, ...]] = {}
        for name, value in self.headers:
            key = name.lower()
            found[key] = (*found.get(key, ()), value)
        return found

    def all(self, name: str) -> tuple[str, ...]:
        """Return every value of the header ``name``."""
        return self.by_name.get(name.lower(), ())

    def one(self, name: str) -> str | None:
        """Return the value of ``name``; fails where it was sent more than once."""
        values = self.all(name)
        if len(values) > 1:
            self._fail(f"The {name} header must not be repeated.")
        return values[0] if values else None

    def tokens(self, name: str) -> tuple[str, ...]:
        """Return the members of the comma separated list ``name`` (RFC 9110 section 5.6.1)."""
        members = (item.strip("\t ") for value in self.all(name) for item in value.split(","))
        return tuple(item for item in members if item)

    def has(self, name: str, token: str) -> bool:
        """Tell whether the list ``name`` holds ``token``, in any case."""
        return token.lower() in (item.lower() for item in self.tokens(name))

    def _fail(self, detail: str) -> NoReturn:
        raise BadRequest(detail)

    def _rendered(self, line: str) -> bytes:
        fields = "".join(f"{name}: {value}\r\n" for name, value in self.headers)
        return f"{line}\r\n{fields}\r\n".encode("iso-8859-1")


class RequestHead(_Head, frozen=True, kw_only=True):
    """A client's request line and headers."""

    method: str
    target: str

    @property
    def path(self) -> str:
        """The target before the first question mark."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """The target after the first question mark."""
        return self.target.partition("?")[2]

    @property
    def host(self) -> str:
        """The authority that the client asked for."""
        return self.one("Host") or ""

    def render(self) -> bytes:
        """Return the octets, with the empty line."""
        return self._rendered(f"{self.method} {self.target} HTTP/1.1")


class ResponseHead(_Head, frozen=True, kw_only=True):
    """A status line and headers."""

    status: int
    reason: str = ""

    def _fail(self, detail: str) -> NoReturn:
        raise BadHandshake(detail)

    def render(self) -> bytes:
        """Return the octets, with the empty line."""
        return self._rendered(f"HTTP/1.1 {self.status} {self.reason}")


def parse_request(octets: bytes) -> RequestHead:
    """Return the request head in ``octets`` (without the empty line).

    Fails with `BadRequest` or `HeadTooLarge`; the details reflect nothing.
    """
    line, *lines = octets.decode("iso-8859-1").split("\r\n")
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise BadRequest("The request line must be: GET /PATH HTTP/1.1.")
    headers = _fields(lines, BadRequest)
    if len(headers) > MAX_HEADERS:
        raise HeadTooLarge(f"A request may have {MAX_HEADERS} headers at most.")
    head = RequestHead(method=match.group(1), target=match.group(2), headers=headers)
    if _HOST.fullmatch(head.host) is None:  # RFC 9112 section 3.2: exactly one, and valid
        raise BadRequest("A request needs one valid Host header.")
    return head


def parse_response(octets: bytes) -> ResponseHead:
    """Return the head of a service's handshake in ``octets``; fails with `BadHandshake`."""
    if octets.startswith(b"HTTP/1.0"):
        raise BadHandshake("The service did not answer in HTTP/1.1.")
    return _parse_response(octets, BadHandshake)


def parse_answer(octets: bytes) -> ResponseHead:
    """Return the head of a service's answer to a plain request; fails with `BadAnswer`.

    HTTP/1.0 is taken too, which knows no transfer codings.
    """
    head = _parse_response(octets, BadAnswer)
    if octets.startswith(b"HTTP/1.0") and head.all("Transfer-Encoding"):
        raise BadAnswer("HTTP/1.0 has no transfer codings.")
    return head


def _parse_response(octets: bytes, error: type[GatewayError]) -> ResponseHead:
    line, *lines = octets.decode("iso-8859-1").split("\r\n")
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise error("The service did not answer in HTTP/1.1.")
    headers = _fields(lines, error)
    return ResponseHead(status=int(match.group(1)), reason=match.group(2) or "", headers=headers)


def _fields(lines: list[str], error: type[GatewayError]) -> Pairs:
    matches = [_FIELD.fullmatch(line) for line in lines]
    pairs = tuple((match.group(1), match.group(2)) for match in matches if match is not None)
    if len(pairs) != len(lines):
        raise error("A header line is malformed.")
    return pairs


H = TypeVar("H", bound=_Head)


class HeadReader(Generic[H]):
    """Reads one head in any split; the same octets always get the same answer."""

    def __init__(
        self,
        parse: Callable[[bytes], H],
        malformed: type[GatewayError],
        too_large: type[GatewayError],
        too_long: type[GatewayError],
    ) -> None:
        self._parse = parse
        self._malformed = malformed
        self._too_large = too_large
        self._too_long = too_long
        self._buffer = bytearray()
        self._seen = 0
        self.rest = b""

    @property
    def empty(self) -> bool:
        """Whether nothing has arrived."""
        return not self._buffer

    def feed(self, data: bytes) -> H | None:
        """Take octets; return the head when it is complete. `rest` then has what follows.

        Fails as the parsing function does. Faults count in the order of their places,
        not of their kinds, so that no split changes the answer.
        """
        buffer = self._buffer
        buffer += data
        end = buffer.find(b"\r\n\r\n", max(0, self._seen - 3), MAX_HEAD)
        stop = end + 4 if end >= 0 else min(len(buffer), MAX_HEAD)
        bad = _BAD.search(buffer, max(0, self._seen - 1), stop)
        if _LONG_TARGET.match(buffer, 0, bad.start() if bad else stop):
            raise self._too_long(f"The request target may have {MAX_TARGET} octets at most.")
        if bad:
            raise self._malformed("The head holds a control character, or a CR or LF alone.")
        if end < 0 and len(buffer) >= MAX_HEAD:
            raise self._too_large(f"A head may have {MAX_HEAD} octets at most.")
        self._seen = len(buffer)
        if end < 0:
            return None
        self.rest = bytes(buffer[stop:])
        return self._parse(bytes(buffer[:end]))


def request_reader() -> HeadReader[RequestHead]:
    """Return a reader of a client's head."""
    return HeadReader(parse_request, BadRequest, HeadTooLarge, UriTooLong)


def response_reader() -> HeadReader[ResponseHead]:
    """Return a reader of a service's head; every fault is a `BadHandshake`."""
    return HeadReader(parse_response, BadHandshake, BadHandshake, BadHandshake)


def answer_reader() -> HeadReader[ResponseHead]:
    """Return a reader of a service's answer to a plain request; every fault is a `BadAnswer`."""
    return HeadReader(parse_answer, BadAnswer, BadAnswer, BadAnswer)
