"""Where the Kubernetes API is, and how the gateway shows who it is.

Two sources: the service account that Kubernetes mounts into the gateway's own pod, and a
kubeconfig file. Tokens that are in files are read again for every question, because
Kubernetes replaces them about every hour.
"""

from __future__ import annotations

import base64
import binascii
import os
import sys
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct, field
from twisted.internet.ssl import Certificate, PrivateCertificate

from vsmgate.errors import ConfigError, EngineUnreachable, Problem
from vsmgate.hands.http_client import parse_authorities
from vsmgate.hands.tls_identity import TlsIdentity, parse_identity
from vsmgate.model import Secret

__all__ = ["SERVICE_ACCOUNT", "Access", "from_kubeconfig", "in_cluster"]

#: Where Kubernetes mounts a pod's own service account.
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_MOST = 65536


class Access(Struct, frozen=True):
    """A way into one API server. ``server``: its base URL, without a slash at the end.

    ``token`` or ``token_file``: what is shown as a bearer token; neither where a client's
    certificate is. ``namespace``: the one that the credentials are for, or empty.
    """

    server: str
    tls: TlsIdentity
    namespace: str = ""
    token: Secret | None = None
    token_file: Path | None = None

    def headers(self) -> dict[str, str]:
        """Return the headers that show who we are; raises `EngineUnreachable`."""
        token = self.token.reveal() if self.token else ""
        if self.token_file is not None:
            try:
                token = self.token_file.read_bytes()[:_MOST].decode("ascii").strip()
            except (OSError, UnicodeDecodeError):
                raise EngineUnreachable(
                    "The gateway's token for Kubernetes is not there."
                ) from None
        return {"Authorization": f"Bearer {token}"} if token else {}


def in_cluster(
    where: str, environment: Mapping[str, str] = os.environ, folder: Path = SERVICE_ACCOUNT
) -> Access:
    """Return the access of the pod that we run in; raises `ConfigError`.

    ``where``: the dotted key of the launcher, for messages.
    """
    host = environment.get("KUBERNETES_SERVICE_HOST", "")
    port = environment.get("KUBERNETES_SERVICE_PORT", "443")
    token_file = folder / "token"
    if not host or not token_file.is_file():
        raise _wrong(
            f"{where}.kubeconfig",
            "is required: the gateway does not run in a pod of Kubernetes with a service account",
        )
    try:
        authorities = parse_authorities((folder / "ca.crt").read_bytes())
        namespace = (folder / "namespace").read_text().strip()
    except (OSError, ValueError) as error:
        raise _wrong(where, f"the pod's service account cannot be used: {error}") from None
    host = f"[{host}]" if ":" in host else host
    return Access(
        f"https://{host}:{port}", TlsIdentity(authorities), namespace, token_file=token_file
    )


class _Cluster(Struct, frozen=True):
    server: str = ""
    authority: str = field(name="certificate-authority", default="")
    authority_data: str = field(name="certificate-authority-data", default="")
    insecure: bool = field(name="insecure-skip-tls-verify", default=False)
    server_name: str = field(name="tls-server-name", default="")
    proxy: str = field(name="proxy-url", default="")


class _User(Struct, frozen=True):
    token: str = ""
    token_file: str = field(name="tokenFile", default="")
    certificate: str = field(name="client-certificate", default="")
    certificate_data: str = field(name="client-certificate-data", default="")
    key: str = field(name="client-key", default="")
    key_data: str = field(name="client-key-data", default="")
    username: str = ""
    command: dict[str, Any] | None = field(name="exec", default=None)
    provider: dict[str, Any] | None = field(name="auth-provider", default=None)


class _Context(Struct, frozen=True):
    cluster: str = ""
    user: str = ""
    namespace: str = ""


class _NamedCluster(Struct, frozen=True):
    name: str
    cluster: _Cluster = _Cluster()


class _NamedUser(Struct, frozen=True):
    name: str
    user: _User | None = None


class _NamedContext(Struct, frozen=True):
    name: str
    context: _Context = _Context()


class _Kubeconfig(Struct, frozen=True):
    current: str = field(name="current-context", default="")
    clusters: list[_NamedCluster] | None = None
    users: list[_NamedUser] | None = None
    contexts: list[_NamedContext] | None = None


def from_kubeconfig(path: Path, context: str, where: str) -> Access:
    """Return the access that a kubeconfig file gives in one of its contexts (empty: its current).

    Raises `ConfigError`; its messages have no credential.
    """
    key = f"{where}.kubeconfig"
    try:
        data = path.read_bytes()
        config = msgspec.yaml.decode(data, type=_Kubeconfig)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise _wrong(key, f"{str(path)!r} cannot be read: {why}") from None
    except ImportError:
        remedy = f"needs PyYAML: {sys.executable} -m pip install 'vsmgate[kubernetes]'"
        raise _wrong(key, remedy) from None
    except msgspec.ValidationError as error:
        raise _wrong(key, f"{str(path)!r} is no kubeconfig: {error}") from None
    except Exception:  # PyYAML's own errors, which quote the file
        raise _wrong(key, f"{str(path)!r} is not YAML") from None
    contexts = {item.name: item.context for item in config.contexts or ()}
    name = context or config.current
    if name not in contexts:
        at = f"{where}.context" if context else key
        known = ", ".join(sorted(contexts)) or "none"
        raise _wrong(at, f"there is no context {name!r} in {str(path)!r}; known: {known}")
    chosen = contexts[name]
    cluster = next((c.cluster for c in config.clusters or () if c.name == chosen.cluster), None)
    user = next((u.user for u in config.users or () if u.name == chosen.user), None) or _User()
    problems = list(_unusable(cluster, user, name))
    if problems or cluster is None:
        raise ConfigError(where, [Problem(key, why) for why in problems])
    try:
        return Access(
            cluster.server.rstrip("/"),
            TlsIdentity(_authorities(path, cluster), _own(path, user), cluster.server_name),
            chosen.namespace,
            Secret(user.token) if user.token and not user.token_file else None,
            path.parent / user.token_file if user.token_file else None,
        )
    except (OSError, ValueError) as error:
        raise _wrong(key, f"context {name!r}: {error}") from None


def _unusable(cluster: _Cluster | None, user: _User, context: str) -> Iterable[str]:
    """Yield why a context cannot be used."""
    if cluster is None or not cluster.server:
        yield f"context {context!r} has no cluster with a server"
        return
    if user.command is not None or user.provider is not None:
        yield (
            f"context {context!r} gets its token from a command or a provider, which a gateway "
            f"does not run; use a service account's token in a file (tokenFile)"
        )
    if user.username:
        yield f"context {context!r} has a user name and a password, which Kubernetes takes no more"
    if cluster.insecure:
        yield (
            f"context {context!r} has insecure-skip-tls-verify: certificates are always verified; "
            f"give its certificate-authority"
        )
    if cluster.proxy:
        yield f"context {context!r} has a proxy-url, which is not supported"
    parts = urlsplit(cluster.server)
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.username:
        yield f"context {context!r} has a server that is no https:// URL"
    elif parts.scheme == "http" and not _is_loopback(parts.hostname):
        yield f"context {context!r} has a server without TLS that is not on this machine"


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _authorities(path: Path, cluster: _Cluster) -> list[Certificate]:
    data = _content(path, cluster.authority_data, cluster.authority, "certificate-authority")
    return parse_authorities(data) if data else []


def _own(path: Path, user: _User) -> PrivateCertificate | None:
    certificate = _content(path, user.certificate_data, user.certificate, "client-certificate")
    key = _content(path, user.key_data, user.key, "client-key")
    return parse_identity(certificate + b"\n" + key) if certificate else None


def _content(path: Path, data: str, file: str, what: str) -> bytes:
    """Return what a kubeconfig has inline, or in a file beside it."""
    if not data:
        return (path.parent / file).read_bytes() if file else b""
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error:
        raise ValueError(f"{what}-data is not base64") from None


def _wrong(key: str, why: str) -> ConfigError:
    return ConfigError(key.split(".")[1] if "." in key else key, [Problem(key, why)])
