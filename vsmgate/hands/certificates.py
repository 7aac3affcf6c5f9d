"""The certificate of a listener, read again when its files change; nothing is dropped."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.logger import Logger
from zope.interface import implementer

from vsmgate.config import TlsConfig
from vsmgate.errors import ConfigError, Problem

__all__ = ["Certificates"]

_VERSIONS = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}


@implementer(IOpenSSLServerConnectionCreator)
class Certificates:
    """Gives new connections the newest certificate; those that are open keep theirs.

    ``where``: the dotted key of ``config``, in the file ``source``. Raises `ConfigError`
    when the files cannot be used.
    """

    _log = Logger()

    def __init__(self, config: TlsConfig, where: str, source: str = "configuration") -> None:
        self._config = config
        self._where = where
        self._source = source
        self._stamps = self._look()
        self._context = _context(config, where, source)

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        return SSL.Connection(self._context, None)

    def refresh(self) -> None:
        """Read the files again if they changed; with an error in them, the old ones stay."""
        stamps = self._look()
        if stamps == self._stamps:
            return
        self._stamps = stamps
        try:
            self._context = _context(self._config, self._where, self._source)
        except ConfigError as error:
            # Also between the change of one file and that of the other.
            self._log.warn("the certificate stays as it was: {error}", error=str(error))
        else:
            self._log.info("{where}: a new certificate is in use", where=self._where)

    def _look(self) -> list[tuple[int, int, int]]:
        stamps = []
        for file in (self._config.certificate_file, self._config.key_file):
            try:
                found = os.stat(file)
                stamps.append((found.st_mtime_ns, found.st_ino, found.st_size))
            except OSError:
                stamps.append((0, 0, 0))
        return stamps


def _context(config: TlsConfig, where: str, source: str) -> SSL.Context:
    """Return what OpenSSL needs for a server; raise `ConfigError`."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(_VERSIONS[config.min_version])
    context.set_options(SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_alpn_select_callback(_choose)
    problems = []
    for key, use, file in (
        ("certificate_file", context.use_certificate_chain_file, config.certificate_file),
        ("key_file", partial(_use_key, context), config.key_file),
    ):
        try:
            with open(file, "rb"):
                pass
            use(file)
        except OSError as error:
            detail = f"{file!r} cannot be read: {(error.strerror or str(error)).lower()}"
            problems.append(Problem(f"{where}.{key}", detail))
        except (SSL.Error, ValueError, TypeError):
            what = "certificate" if key == "certificate_file" else "unencrypted key of it"
            problems.append(Problem(f"{where}.{key}", f"{file!r} has no {what} in PEM"))
    if problems:
        raise ConfigError(source, problems)
    return context


def _use_key(context: SSL.Context, file: str) -> None:
    """Use the key in ``file``; OpenSSL itself would ask the terminal for a passphrase."""
    key: Any = load_pem_private_key(Path(file).read_bytes(), None)
    context.use_privatekey(key)  # compares it with the certificate


def _choose(connection: SSL.Connection, offered: list[bytes]) -> Any:
    """Choose HTTP/1.1 (RFC 7301); who offers only others may still speak it."""
    return b"http/1.1" if b"http/1.1" in offered else SSL.NO_OVERLAPPING_PROTOCOLS
