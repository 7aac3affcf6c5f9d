"""The tokens file: who has which token, without the tokens.

::

    [[token]]
    sha256 = "9f86d081884c7d65..."      # of the token, 64 hexadecimal digits
    subject = "ada"
    groups = ["vis"]                    # optional
    expires = 2027-01-01T00:00:00Z      # optional, with offset
    name = "laptop"                     # optional, for people
    created = 2026-11-22T08:00:00Z      # optional; `vsmgate token` writes it

A token is 256 random bits, so a plain SHA-256 keeps it: there is nothing to guess that
a slow hash would have to protect.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from vsmgate.errors import ConfigError, Problem
from vsmgate.settings import parse_toml, read, read_toml

__all__ = [
    "ID_LENGTH",
    "Token",
    "add_token",
    "new_token",
    "read_tokens",
    "remove_token",
    "write_private",
]

#: So many digits of its SHA-256 are shown as a token's id.
ID_LENGTH = 12

_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_ID = re.compile(r"[0-9a-f]{8,64}", re.ASCII)
#: The first line of an entry, and of any table.
_ENTRY = re.compile(r"[ \t]*\[\[[ \t]*(token|'token'|\"token\")[ \t]*\]\]", re.ASCII)
_TABLE = re.compile(r"[ \t]*\[", re.ASCII)
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH

Subject = Annotated[
    str,
    Meta(
        pattern=r"^[^\x00-\x1f\x7f]{1,256}$",
        description="a name of 1 to 256 characters on one line",
    ),
]


class Token(Struct, frozen=True, forbid_unknown_fields=True):
    """One entry: whom the token with this SHA-256 stands for, and until when."""

    sha256: str
    subject: Subject
    groups: tuple[Subject, ...] = ()
    expires: Annotated[datetime, Meta(tz=True)] | None = None
    name: str = ""
    created: Annotated[datetime, Meta(tz=True)] | None = None


class _TokenFile(Struct, frozen=True, forbid_unknown_fields=True):
    token: tuple[Token, ...] = ()


def new_token() -> str:
    """Return a new token: 256 random bits as base64url, 43 characters."""
    return secrets.token_urlsafe(32)


def read_tokens(path: Path) -> Mapping[str, Token]:
    """Return SHA-256 -> entry of the tokens file ``path``.

    Raises `ConfigError` with every error, also when others than its owner may change
    the file, and so name themselves whatever they like.
    """
    if not path.exists():
        detail = f"is missing; make it with: vsmgate token make --subject NAME --file {path}"
        raise ConfigError(str(path), [Problem("", detail)])
    tokens = _checked(read_toml(path), str(path))
    with suppress(FileNotFoundError):  # gone meanwhile: then nobody writes it
        if path.stat().st_mode & _OTHERS_MAY_WRITE:
            detail = f"others than its owner may write it; run: chmod go-w {path}"
            raise ConfigError(str(path), [Problem("", detail)])
    return tokens


def add_token(path: Path, token: Token) -> None:
    """Append an entry to the tokens file ``path``, or make the file.

    What is there stays as it is, with its comments. Raises `ConfigError` when the file
    is not good or cannot be written; then it is unchanged.
    """
    path = path.resolve()  # replace the file, not a link to it
    try:
        with _locked(path.parent):
            text = path.read_text("utf-8") if path.exists() else ""
            _checked(parse_toml(text, str(path)), str(path))
            text = f"{text.rstrip()}\n\n{_entry(token)}".lstrip()
            _checked(parse_toml(text, str(path)), str(path))
            write_private(path, text)
    except (OSError, UnicodeDecodeError) as error:
        raise _unwritten(path, error) from None


def remove_token(path: Path, which: str) -> Token:
    """Remove the one entry that ``which`` means from the file ``path``, and return it.

    ``which``: its name, or the first eight or more digits of its SHA-256. What else is there
    stays as it is, with its comments. Raises `ConfigError` when it is no entry's, or that of
    several, or the file cannot be written; then it is unchanged.
    """
    path = path.resolve()
    try:
        with _locked(path.parent):
            text = path.read_text("utf-8")
            tokens = list(_checked(parse_toml(text, str(path)), str(path)).values())
            index = _meant(tokens, which, str(path))
            kept = [token for token in tokens if token is not tokens[index]]
            shorter = _without(text, index)
            if not _says(shorter, kept):
                detail = "is written in a way that only people can change; remove it by hand"
                raise ConfigError(str(path), [Problem(f"token[{index}]", detail)])
            write_private(path, shorter)
    except (OSError, UnicodeDecodeError) as error:
        raise _unwritten(path, error) from None
    return tokens[index]


def _meant(tokens: Sequence[Token], which: str, source: str) -> int:
    """Return the index of the only token that ``which`` means."""
    is_id = _ID.fullmatch(which) is not None
    found = [
        index
        for index, token in enumerate(tokens)
        if (which and token.name == which) or (is_id and token.sha256.startswith(which))
    ]
    if len(found) == 1:
        return found[0]
    if found:
        ids = ", ".join(tokens[index].sha256[:ID_LENGTH] for index in found)
        detail = f"{which!r} means {len(found)} tokens; give one of their ids: {ids}"
    else:
        detail = f"no token has the name or id {which!r}; `vsmgate token list` shows them"
    raise ConfigError(source, [Problem("", detail)])


def _says(text: str, tokens: Sequence[Token]) -> bool:
    """Return whether ``text`` is a tokens file of exactly these."""
    try:
        return list(_checked(parse_toml(text, ""), "").values()) == tokens
    except ConfigError:
        return False


def _without(text: str, index: int) -> str:
    """Return ``text`` without its entry ``index``: from its header to the next table's."""
    lines = text.splitlines(keepends=True)
    starts = [number for number, line in enumerate(lines) if _ENTRY.match(line)]
    if index >= len(starts):
        return text
    end = starts[index] + 1
    while end < len(lines) and not _TABLE.match(lines[end]):
        end += 1
    while end > starts[index] + 1 and lines[end - 1].lstrip().startswith("#"):
        end -= 1  # comments before the next entry are the next entry's
    return "".join([*lines[: starts[index]], *lines[end:]])


def write_private(path: Path, text: str) -> None:
    """Write ``text`` at once or not at all; a new file is its owner's alone (mode 0600).

    A file that was there keeps its owner and mode. Raises `ConfigError`.
    """
    draft = None
    try:
        descriptor, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with open(descriptor, "w", encoding="utf-8") as file:
            if path.exists():
                before = path.stat()
                os.fchmod(descriptor, stat.S_IMODE(before.st_mode) & ~_OTHERS_MAY_WRITE)
                with suppress(PermissionError):  # only root gives files away
                    os.fchown(descriptor, before.st_uid, before.st_gid)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        os.replace(draft, path)
    except OSError as error:
        if draft is not None:
            Path(draft).unlink(missing_ok=True)
        raise _unwritten(path, error) from None


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other writers of this folder's tokens files away."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _checked(table: dict[str, object], source: str) -> Mapping[str, Token]:
    tokens: dict[str, Token] = {}
    problems: list[Problem] = []
    for index, token in enumerate(read(_TokenFile, table, source=source).token):
        pointer = f"token[{index}].sha256"
        if not _DIGEST.fullmatch(token.sha256):
            # The value is not shown: somebody may have put the token itself here.
            detail = "must be the SHA-256 of the token, 64 digits 0-9a-f, never the token itself"
            problems.append(Problem(pointer, detail))
        elif token.sha256 in tokens:
            detail = f"is the token of {tokens[token.sha256].subject!r} too; each needs its own"
            problems.append(Problem(pointer, detail))
        tokens[token.sha256] = token
    if problems:
        raise ConfigError(source, problems)
    return tokens


def _entry(token: Token) -> str:
    lines = [
        "[[token]]",
        f"sha256 = {_quoted(token.sha256)}",
        f"subject = {_quoted(token.subject)}",
    ]
    if token.groups:
        lines.append(f"groups = {_listed(token.groups)}")
    if token.expires is not None:
        lines.append(f"expires = {token.expires.isoformat(timespec='seconds')}")
    if token.name:
        lines.append(f"name = {_quoted(token.name)}")
    if token.created is not None:
        lines.append(f"created = {token.created.isoformat(timespec='seconds')}")
    return "\n".join(lines) + "\n"


def _listed(values: Sequence[str]) -> str:
    return f"[{', '.join(map(_quoted, values))}]"


def _quoted(value: str) -> str:
    """Return a TOML basic string: JSON's, but for one control character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _unwritten(path: Path, error: Exception) -> ConfigError:
    reason = getattr(error, "strerror", None) or str(error)
    return ConfigError(str(path), [Problem("", f"cannot be written: {reason.lower()}")])
