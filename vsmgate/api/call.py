"""One call as its handler sees it, and how it reads what the client sent."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, get_origin, get_type_hints

import msgspec

from vsmgate.audit import Value
from vsmgate.errors import (
    BadParameters,
    BadRequest,
    NoSuchJob,
    Problem,
    UnsupportedMediaType,
)
from vsmgate.model import JOB_ID, Identity

__all__ = ["ANYBODY", "Call"]

T = TypeVar("T", bound=msgspec.Struct)

#: Who calls what needs no token.
ANYBODY = Identity("")

_AT = re.compile(r" - at `(?P<path>[^`]*)`$")
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")
_FIELD = re.compile(r"(?:unknown|required) field `(?P<name>[^`]*)`")
_KEY = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)


@dataclass(slots=True)
class Call:
    """A request whose token was good.

    ``arguments``: of the path. ``query``: as sent, decoded. ``header`` returns one by its
    name, and ``body`` the body. ``details``: what the audit log shall have besides; ``job``
    in it where the path has none.
    """

    identity: Identity
    arguments: Mapping[str, str]
    query: Mapping[bytes, Sequence[bytes]]
    header: Callable[[bytes], str | None]
    body: Callable[[], bytes]
    request_id: str
    details: dict[str, Value] = field(default_factory=dict)

    def job_id(self) -> str:
        """Return the path's job id; ids that cannot be are unknown ones.

        Lower-cased, as in the relay: one page lower-cases its URLs.
        """
        job_id = self.arguments["job_id"]
        if not job_id.isascii() or JOB_ID.fullmatch(job_id.lower()) is None:
            raise NoSuchJob
        return job_id.lower()

    def key(self) -> str | None:
        """Return the ``Idempotency-Key``; fail with `BadRequest` for an impossible one."""
        key = self.header(b"Idempotency-Key")
        if key is not None and not _KEY.fullmatch(key):
            raise BadRequest("Idempotency-Key must be 1 to 255 printable ASCII characters.")
        return key

    def read(self, kind: type[T], *, media_types: Sequence[str] = ("application/json",)) -> T:
        """Return the JSON body as ``kind``.

        Fails with `UnsupportedMediaType`, with `BadRequest` when it is not JSON, and
        with `BadParameters` when it has another shape.
        """
        media_type = self.header(b"Content-Type") or ""
        if media_type.partition(";")[0].strip().lower() not in media_types:
            raise UnsupportedMediaType("Send the body with Content-Type: application/json.")
        try:
            return msgspec.json.decode(self.body(), type=kind)
        except msgspec.ValidationError as error:
            raise BadParameters(
                f"The body does not fit: {error}.", problems=_problems(error)
            ) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise BadRequest("The body must be a JSON object.") from None

    def asked(self, kind: type[T]) -> T:
        """Return the query as ``kind``.

        A list is given by repeating its name, or with commas. Fails with `BadParameters`.
        """
        hints = get_type_hints(kind)
        values: dict[str, Any] = {}
        for raw, texts in self.query.items():
            name = raw.decode("utf-8", "replace")
            words = [text.decode("utf-8", "replace") for text in texts]
            if get_origin(hints.get(name)) is tuple:
                values[name] = [part for word in words for part in word.split(",") if part]
            elif len(words) > 1:
                problem = Problem(f"/{name}", "give it once")
                raise BadParameters(f"{name} is given more than once.", problems=[problem])
            else:
                values[name] = words[0]
        try:
            return msgspec.convert(values, kind, strict=False)
        except msgspec.ValidationError as error:
            raise BadParameters(
                f"The query does not fit: {error}.", problems=_problems(error)
            ) from None


def _problems(error: msgspec.ValidationError) -> list[Problem]:
    """Return msgspec's finding with a JSON pointer (RFC 6901)."""
    text = str(error)
    at = _AT.search(text)
    pointer = ""
    if at is not None:
        steps = (a or b for a, b in _STEP.findall(at["path"]))
        pointer = "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in steps)
        text = text[: at.start()]
    unknown = _FIELD.search(text)
    if unknown is not None:
        pointer += "/" + unknown["name"].replace("~", "~0").replace("/", "~1")
    return [Problem(pointer, text)]
