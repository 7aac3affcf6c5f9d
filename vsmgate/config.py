"""The configuration as one frozen value.

One TOML file is read into `Config`, whole and checked before a port opens (see
`vsmgate.settings` for how every error is found at once). Durations are seconds, sizes
octets. Secrets are given by file or environment variable name, never inline.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from vsmgate.model import Seconds

__all__ = ["Config", "JobsConfig", "LogConfig", "MasterConfig", "PluginConfig", "RelayConfig"]

Count = Annotated[int, Meta(ge=1)]


class MasterConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """``[master]``: the REST face.

    ``allowed_origins``: exact origins (``https://vis.example.org``) whose pages may call
    it. ``open_metrics``: serve ``/metrics`` without a token.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 4444
    allowed_origins: tuple[str, ...] = ()
    max_body: Count = 65536
    open_metrics: bool = False


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
    relay may take to deliver what it holds.
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
    drain: Annotated[float, Meta(ge=0)] = 30.0
    drain_spread: Annotated[float, Meta(ge=0)] = 5.0
    linger: Seconds = 10.0


class JobsConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """``[jobs]``: quotas, limits of time, and how often engines are asked.

    A use case's own limits win over these. ``queue_timeout``: None waits for ever.
    ``idle_timeout``: without client data frames; None never. ``lost_after``: how many
    polls in a row must not know a job, over at least ``lost_grace`` seconds.
    ``poll_interval`` at rest, ``poll_fastest`` while somebody waits for a change.
    """

    default_usecase: str = "demo"
    max_per_user: Count | None = 4
    max_total: Count | None = 64
    over_quota: Literal["refuse", "queue"] = "refuse"
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
    """One configured plugin: its ``kind`` and its settings, read by the factory's type."""

    kind: str
    settings: dict[str, Any]


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file.

    ``launchers``, ``authenticators``, ``usecases``: tables name -> plugin table (with
    ``kind``). Authenticators are asked in the file's order. ``store``: one plugin table.
    ``plugin_folders``: more folders of drop-ins. Relative paths start at the file's folder,
    except ``state_dir`` from the command line, which starts at the working directory.
    """

    state_dir: str = "var"
    role: Literal["all", "master", "relay"] = "all"
    master: MasterConfig = MasterConfig()
    relay: RelayConfig = RelayConfig()
    jobs: JobsConfig = JobsConfig()
    log: LogConfig = LogConfig()
    store: PluginConfig = PluginConfig("sql", {})
    launchers: dict[str, PluginConfig] = {}
    authenticators: dict[str, PluginConfig] = {}
    usecases: dict[str, PluginConfig] = {}
    plugin_folders: tuple[str, ...] = ()


