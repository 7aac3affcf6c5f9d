"""The configuration as one frozen value.

One TOML file is read into `Config`, whole and checked before a port opens (see
`vsmgate.settings` for how every error is found at once). Durations are seconds, sizes
octets. Secrets are given by file or environment variable name, never inline.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, to_builtins
from msgspec.structs import replace

from vsmgate.addresses import (
    wrong_with_base_path,
    wrong_with_host,
    wrong_with_origin,
    wrong_with_public_base,
)
from vsmgate.errors import ConfigError, Problem
from vsmgate.model import Name, Seconds
from vsmgate.settings import inline_secrets, parse_toml, read, read_toml

__all__ = [
    "Config",
    "JobsConfig",
    "LogConfig",
    "MasterConfig",
    "PluginConfig",
    "RelayConfig",
    "load",
    "override",
    "parse",
]

Count = Annotated[int, Meta(ge=1)]
Role = Literal["all", "master", "relay"]

#: The Brayns client gives an opening handshake up after so many seconds.
_PATIENCE = 10.0
_ANY_ADDRESS = frozenset({"0.0.0.0", "::"})
_FAMILIES = ("launchers", "authenticators", "usecases")


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
    relay may take to deliver what it holds. ``expiry``: what becomes of a relay whose
    token ends (see `vsmgate.relay.curfew`), ``expiry_grace`` after that.
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
    expiry: Literal["close", "keep"] = "close"
    expiry_grace: Annotated[float, Meta(ge=0)] = 5.0


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
    except ``state_dir`` from the command line and its default: those start at the working
    directory.
    """

    state_dir: str = "var"
    role: Role = "all"
    master: MasterConfig = MasterConfig()
    relay: RelayConfig = RelayConfig()
    jobs: JobsConfig = JobsConfig()
    log: LogConfig = LogConfig()
    store: PluginConfig = PluginConfig("sql", {})
    launchers: dict[Name, PluginConfig] = {}
    authenticators: dict[Name, PluginConfig] = {}
    usecases: dict[Name, PluginConfig] = {}
    plugin_folders: tuple[str, ...] = ()


def load(path: Path) -> Config:
    """Return the configuration in the file ``path``; raise `ConfigError` with every error.

    A ``state_dir`` in the file becomes absolute here.
    """
    table = read_toml(path)
    config = _checked(table, str(path))
    if "state_dir" in table:
        return replace(config, state_dir=str(path.resolve().parent / config.state_dir))
    return config


def parse(text: str, source: str) -> Config:
    """Return the configuration in ``text``; its errors name ``source``."""
    return _checked(parse_toml(text, source), source)


def override(
    config: Config,
    *,
    state_dir: str | None = None,
    role: Role | None = None,
    master_port: int | None = None,
    relay_port: int | None = None,
) -> Config:
    """Return ``config`` with what the command line says instead; None leaves it alone.

    ``state_dir`` starts at the working directory, as paths on a command line do. Raises
    `ConfigError` as `parse` does.
    """
    master, relay = config.master, config.relay
    if master_port is not None:
        master = replace(master, port=master_port)
    if relay_port is not None:
        relay = replace(relay, port=relay_port)
    changed = replace(
        config,
        state_dir=config.state_dir if state_dir is None else state_dir,
        role=config.role if role is None else role,
        master=master,
        relay=relay,
    )
    source = "command line"
    read(Config, to_builtins(changed), source=source)
    if problems := tuple(_conflicts(changed)):
        raise ConfigError(source, problems)
    return changed


def _checked(table: dict[str, Any], source: str) -> Config:
    """Return a file's ``table`` as a `Config`, or raise all that is wrong with it."""
    problems: list[Problem] = []
    for family in ("store", *_FAMILIES):
        problems += inline_secrets(table.get(family), family)
    try:
        config = read(Config, _with_plugins(table), source=source)
    except ConfigError as error:
        raise ConfigError(source, [*error.problems, *problems]) from None
    problems += _conflicts(config)
    if problems:
        raise ConfigError(source, problems)
    return config


def _with_plugins(table: dict[str, Any]) -> dict[str, Any]:
    """Return ``table`` with every plugin table in the layout of `PluginConfig`."""

    def split(plugin: Any) -> Any:
        if not isinstance(plugin, dict):
            return plugin
        settings = {key: value for key, value in plugin.items() if key != "kind"}
        kind = {"kind": plugin["kind"]} if "kind" in plugin else {}
        return {**kind, "settings": settings}

    changed = dict(table)
    if "store" in table:
        changed["store"] = split(table["store"])
    for family in _FAMILIES:
        if isinstance(table.get(family), dict):
            changed[family] = {name: split(plugin) for name, plugin in table[family].items()}
    return changed


def _conflicts(config: Config) -> Iterator[Problem]:
    """Yield what is wrong although each value has the right type."""
    master, relay, jobs = config.master, config.relay, config.jobs
    for where, face in (("master", master), ("relay", relay)):
        if wrong := wrong_with_host(face.host):
            yield Problem(f"{where}.host", f"{face.host!r} {wrong}")
        for index, origin in enumerate(face.allowed_origins):
            if wrong := wrong_with_origin(origin):
                yield Problem(f"{where}.allowed_origins[{index}]", f"{origin!r} {wrong}")
    hosts = {master.host, relay.host}
    meet = len(hosts) == 1 or hosts & _ANY_ADDRESS
    if config.role == "all" and meet and master.port == relay.port != 0:
        detail = f"{relay.port} is master.port too; each face needs a port of its own"
        yield Problem("relay.port", detail)
    if wrong := wrong_with_base_path(relay.base_path):
        yield Problem("relay.base_path", f"{relay.base_path!r} {wrong}")
    if relay.public_base and (wrong := wrong_with_public_base(relay.public_base)):
        yield Problem("relay.public_base", f"{relay.public_base!r} {wrong}")
    opening = relay.dial_timeout + relay.handshake_timeout
    if opening >= _PATIENCE:
        detail = f"together with dial_timeout this is {opening:g} s; clients wait {_PATIENCE:g} s"
        yield Problem("relay.handshake_timeout", f"{detail}, so the sum must be less")
    if jobs.lifetime > jobs.max_lifetime:
        detail = f"{jobs.lifetime:g} is more than jobs.max_lifetime ({jobs.max_lifetime:g})"
        yield Problem("jobs.lifetime", detail)
    if jobs.poll_fastest > jobs.poll_interval:
        detail = f"{jobs.poll_fastest:g} is more than jobs.poll_interval ({jobs.poll_interval:g})"
        yield Problem("jobs.poll_fastest", detail)
    if not config.authenticators:
        yield Problem(
            "authenticators", _missing("authenticator", "authenticators.tokens", "static")
        )
    if config.role != "relay" and not config.launchers:
        yield Problem("launchers", _missing("launcher", "launchers.local", "local"))
    if config.role != "relay" and not config.usecases:
        yield Problem("usecases", _missing("source of use cases", "usecases.files", "toml"))


def _missing(what: str, table: str, kind: str) -> str:
    return f"no {what} is configured; add for example [{table}] with kind = {kind!r}"
