"""The configuration as one frozen value, which `vsmgate.config_file` reads.

Durations are seconds, sizes octets. Secrets are given by file or environment variable name,
never inline.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from vsmgate.audit import AuditConfig
from vsmgate.model import Name, Seconds
from vsmgate.permissions import AccessConfig

__all__ = [
    "Config",
    "EngineName",
    "JobsConfig",
    "LogConfig",
    "MasterConfig",
    "PluginConfig",
    "RelayConfig",
    "Role",
    "TlsConfig",
]

Count = Annotated[int, Meta(ge=1)]
Role = Literal["all", "master", "relay"]
EngineName = Literal["auto", "sockets", "transports"]


class TlsConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """``[master.tls]`` and ``[relay.tls]``: TLS at the listener itself.

    ``certificate_file``: the certificate, then those up to its authority (PEM).
    ``key_file``: its key, without passphrase. Both are read again when they change.
    """

    certificate_file: str
    key_file: str
    min_version: Literal["1.2", "1.3"] = "1.2"


class MasterConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """``[master]``: the REST face.

    ``allowed_origins``: exact origins (``https://vis.example.org``) whose pages may call
    it. ``open_metrics``: serve ``/metrics`` without a token. ``head_timeout``: for a whole
    request head, and for TLS before it. ``max_unauthenticated``: connections at a time that
    have not shown a good token yet, of all addresses, and of one. ``max_calls_per_user``: calls
    of one user that are answered at a time.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 4444
    allowed_origins: tuple[str, ...] = ()
    max_body: Count = 65536
    open_metrics: bool = False
    head_timeout: Seconds = 8.0
    max_unauthenticated: Count = 2048
    max_unauthenticated_per_address: Count = 256
    max_calls_per_user: Count = 128
    trusted_proxies: tuple[str, ...] = ()
    tls: TlsConfig | None = None


class RelayConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """``[relay]``: the WebSocket face.

    ``public_base``: what clients put before ``/JOB/SERVICE``, without scheme
    (``vis.example.org/vsm/proxy``); empty means host:port of the listener. ``tls_public``:
    clients reach it by ``wss://`` (a TLS front). ``base_path``: a path prefix that the
    listener expects. ``head_timeout``: for the whole request head. ``dial_timeout`` and
    ``handshake_timeout``: for the service; together below the 10 s after which the
    Brayns client gives up. ``dead_peer_timeout``: a peer whose kernel acknowledges
    nothing for so long is gone. ``stall_timeout``: a peer that takes no octet of what
    waits for it for so long. ``drain``: how long SIGTERM waits for relays to end;
    ``drain_spread``: over how long the rest is closed. ``linger``: how long a closing
    relay may take to deliver what it holds. ``engine``: what moves the octets; ``auto``
    is ``sockets`` where the platform has epoll. TLS legs always use ``transports``.
    ``session_lifetime``: how long the cookie of a service's own pages is good.
    ``expiry``: what becomes of a relay whose token ends (see `vsmgate.relay.curfew`),
    ``expiry_grace`` after that. ``max_unauthenticated``: as in ``[master]``.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8888
    public_base: str = ""
    tls_public: bool = False
    base_path: str = ""
    allowed_origins: tuple[str, ...] = ()
    head_timeout: Seconds = 8.0
    dial_timeout: Seconds = 4.0
    handshake_timeout: Seconds = 5.0
    dead_peer_timeout: Seconds = 60.0
    stall_timeout: Seconds = 120.0
    max_connections: Count = 10000
    max_per_user: Count = 64
    max_unauthenticated: Count = 2048
    max_unauthenticated_per_address: Count = 256
    drain: Annotated[float, Meta(ge=0)] = 30.0
    drain_spread: Annotated[float, Meta(ge=0)] = 5.0
    linger: Seconds = 10.0
    trusted_proxies: tuple[str, ...] = ()
    proxy_protocol: bool = False
    workers: Count = 1
    tls: TlsConfig | None = None
    engine: EngineName = "auto"
    session_lifetime: Seconds = 28800.0
    expiry: Literal["close", "keep"] = "close"
    expiry_grace: Annotated[float, Meta(ge=0)] = 5.0


class JobsConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """``[jobs]``: quotas, limits of time, and how often engines are asked.

    A use case's own limits win over these. ``max_per_group``, ``max_per_usecase``: name ->
    live jobs of all who are in that group, of that use case. ``max_queued_per_user``: how
    many of a user's jobs may wait for room, with ``queue``. ``queue_timeout``: None waits for ever.
    ``idle_timeout``: without client data frames; None never. ``lost_after``: how many
    polls in a row must not know a job, over at least ``lost_grace`` seconds.
    ``poll_interval`` at rest, ``poll_fastest`` while somebody waits for a change.
    """

    default_usecase: str = "demo"
    max_per_user: Count | None = 4
    max_total: Count | None = 64
    max_per_group: dict[str, Count] = {}
    max_per_usecase: dict[str, Count] = {}
    over_quota: Literal["refuse", "queue"] = "refuse"
    max_queued_per_user: Count = 16
    queue_timeout: Seconds | None = None
    start_timeout: Seconds = 300.0
    idle_timeout: Seconds | None = None
    lifetime: Seconds = 28800.0
    max_lifetime: Seconds = 86400.0
    retention: Seconds = 86400.0
    log_tail: Count = 8192
    lost_after: Count = 3
    lost_grace: Seconds = 30.0
    poll_fastest: Seconds = 0.5
    poll_interval: Seconds = 5.0
    engine_timeout: Seconds = 30.0
    stop_timeout: Seconds = 60.0


class LogConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """``[log]``: what goes to stderr."""

    level: Literal["debug", "info", "warn", "error"] = "info"


class PluginConfig(Struct, frozen=True):
    """One configured plugin: its ``kind`` and its settings, read by the factory's type.

    ``targets``, of launchers only: where the services of its jobs may be dialled; see
    `vsmgate.targets`.
    """

    kind: str
    settings: dict[str, Any]
    targets: tuple[str, ...] | None = None


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file.

    ``launchers``, ``authenticators``, ``usecases``: tables name -> plugin table (with
    ``kind``). Authenticators are asked in the file's order. ``store``: one plugin table.
    ``plugin_folders``: more folders of drop-ins. Relative paths start at the file's folder,
    except ``state_dir`` from the command line and its default: those start at the working
    directory.
    """

    state_dir: str = "var"
    role: Role = "all"
    master: MasterConfig = MasterConfig()
    relay: RelayConfig = RelayConfig()
    jobs: JobsConfig = JobsConfig()
    log: LogConfig = LogConfig()
    access: AccessConfig = AccessConfig()
    audit: AuditConfig = AuditConfig()
    store: PluginConfig = PluginConfig("sql", {})
    launchers: dict[Name, PluginConfig] = {}
    authenticators: dict[Name, PluginConfig] = {}
    usecases: dict[Name, PluginConfig] = {}
    plugin_folders: tuple[str, ...] = ()
