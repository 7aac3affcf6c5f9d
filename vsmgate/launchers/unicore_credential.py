"""What the gateway shows a UNICORE site: a bearer token, or a user with a password."""

from __future__ import annotations

import base64
import os
import re
from pathlib import Path

from vsmgate.errors import ConfigError, EngineUnreachable, Problem
from vsmgate.launchers.unicore_settings import UnicoreSettings
from vsmgate.model import Secret

__all__ = ["UnicoreCredential"]

_WORD = re.compile(r"[\x21-\x7e]+")
_LARGEST = 64 * 1024


class UnicoreCredential:
    """Makes the header ``Authorization``; a file that changed is read again.

    The files are local and small: reading one does not keep the reactor.
    """

    def __init__(self, settings: UnicoreSettings, config_dir: Path, name: str) -> None:
        """Read it once; raise `ConfigError` when that does not give a credential."""
        file = settings.token_file or settings.password_file
        self._path = config_dir / file if file else None
        variable = settings.token_env or settings.password_env
        self._given = os.environ.get(variable, "") if variable else ""
        self._user = settings.user
        self._seen: tuple[int, int, int] | None = None
        self._secret = Secret("")
        try:
            self.header()
        except EngineUnreachable as error:
            raise ConfigError(name, [Problem(f"launchers.{name}", error.detail)]) from None

    def header(self) -> str:
        """Return the header's value; fails with `EngineUnreachable` where there is none."""
        self._read()
        value = self._secret.reveal()
        if self._user is None:
            return f"Bearer {value}"
        return f"Basic {base64.b64encode(f'{self._user}:{value}'.encode()).decode()}"

    def _read(self) -> None:
        if self._path is None:
            text = self._given
        else:
            try:
                state = self._path.stat()
                seen = (state.st_ino, state.st_mtime_ns, state.st_size)
                if seen == self._seen:
                    return
                with self._path.open("rb") as file:
                    text = file.read(_LARGEST).decode("utf-8", "replace")
            except OSError:
                detail = "The file with UNICORE's credential cannot be read."
                raise EngineUnreachable(detail) from None
            self._seen = seen
        value = text.strip()
        if not (_WORD.fullmatch(value) if self._user is None else value.isprintable() and value):
            self._seen = None
            raise EngineUnreachable("UNICORE's credential is empty, or not one line of text.")
        self._secret = Secret(value)
