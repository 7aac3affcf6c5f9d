"""Static tokens: an authenticator that looks a token's SHA-256 up in a file."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

from msgspec import Struct
from twisted.logger import Logger
from zope.interface import implementer

from vsmgate.auth.tokens import Token, add_token, new_token, read_tokens, write_private
from vsmgate.errors import ConfigError, Unauthenticated
from vsmgate.interfaces import (
    Context,
    IAuthenticator,
    IAuthenticatorFactory,
    IRevocable,
    ISettingsChecker,
)
from vsmgate.model import Identity, Secret

__all__ = ["StaticAuthenticator", "StaticAuthenticatorFactory", "StaticSettings"]

#: The file is looked at again after so many seconds, and no sooner.
_LOOK_EVERY = 1.0


class StaticSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The table of an authenticator of ``kind = "static"``.

    ``file``: the tokens file; without it ``tokens.toml`` in the state directory.
    ``generate``: when there is no such file, make one with one new token for the user
    who runs the gateway, and write that token to ``token`` in the state directory.
    """

    file: str | None = None
    generate: bool = False


@implementer(IAuthenticatorFactory, ISettingsChecker)
class StaticAuthenticatorFactory:
    """Makes authenticators from tokens files."""

    kind = "static"
    help = "Tokens whose SHA-256 stand in a file, with subject, groups and expiry."
    settings = StaticSettings

    def make(self, settings: StaticSettings, context: Context) -> StaticAuthenticator:
        path = _path(settings, context)
        if settings.generate and not path.exists():
            _generate(path, context.state_dir / "token")
        return StaticAuthenticator(path, context.wall, context.name)

    def inspect(self, settings: StaticSettings, context: Context) -> None:
        path = _path(settings, context)
        if path.exists() or not settings.generate:
            read_tokens(path)


@implementer(IAuthenticator, IRevocable)
class StaticAuthenticator:
    """Knows the tokens of a file, also after the file changed.

    A token is found by its SHA-256 in a dictionary. How long that takes tells about
    the digest at most, which helps nobody to find 256 random bits.
    """

    _log = Logger()

    def __init__(self, path: Path, wall: Callable[[], float], name: str) -> None:
        """Read the file; raise `vsmgate.errors.ConfigError` when it is not good."""
        self._path = path
        self._wall = wall
        self._name = name
        self._looked_at = wall()
        self._seen = _state_of(path)
        self._tokens: Mapping[str, Token] = read_tokens(path)
        self._warn_if_readable()

    async def authenticate(self, credential: Secret) -> Identity:
        now = self._look_again()
        token = self._tokens.get(credential.digest())
        if token is None:
            raise Unauthenticated("The bearer token is not known here.")
        expires_at = None if token.expires is None else token.expires.timestamp()
        if expires_at is not None and expires_at <= now:
            raise Unauthenticated("The bearer token has expired.")
        issued_at = None if token.created is None else token.created.timestamp()
        return Identity(
            token.subject, token.groups, expires_at, self._name, issued_at, token.sha256
        )

    async def still_valid(self, identity: Identity) -> bool:
        if identity.authenticator != self._name or not identity.handle:
            return True
        self._look_again()
        token = self._tokens.get(identity.handle)
        return token is not None and token.subject == identity.subject

    def _look_again(self) -> float:
        """Look at the file, at most every second; return the time."""
        now = self._wall()
        if abs(now - self._looked_at) >= _LOOK_EVERY:
            self._looked_at = now
            self._look()
        return now

    def _look(self) -> None:
        """Read the file again if it changed; a bad one is logged once and not used."""
        seen = _state_of(self._path)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._tokens = read_tokens(self._path)
        except ConfigError as error:
            self._log.error(
                "the changed tokens file is not good, the tokens from before stay: {problems}",
                problems=str(error),
            )
            return
        self._log.info("read {count} tokens from {path}", count=len(self._tokens), path=self._path)
        self._warn_if_readable()

    def _warn_if_readable(self) -> None:
        if self._seen is not None and self._seen[0] & (stat.S_IRGRP | stat.S_IROTH):
            self._log.warn("others may read the tokens file; chmod 600 {path}", path=self._path)


def _state_of(path: Path) -> tuple[int, int, int, int] | None:
    """Return what changes when the file does, its mode first; None when it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mode, found.st_ino, found.st_mtime_ns, found.st_size


def _path(settings: StaticSettings, context: Context) -> Path:
    if settings.file is None:
        return context.state_dir / "tokens.toml"
    return context.config_dir / settings.file


def _generate(path: Path, plain: Path) -> None:
    """Make a token for the user who runs this; the file that makes it good comes last."""
    try:
        subject = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # in containers users may have no name
        subject = f"uid-{os.getuid()}"
    token = new_token()
    write_private(plain, f"{token}\n")
    add_token(path, Token(Secret(token).digest(), subject, name="made at the first start"))
