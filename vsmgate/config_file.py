"""Reading the configuration: one TOML file, whole and checked before a port opens.

See `vsmgate.settings` for how every error is found at once. Here is also what is wrong with a
configuration although each value has the right type.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from msgspec import to_builtins
from msgspec.structs import replace

from vsmgate.addresses import (
    wrong_with_base_path,
    wrong_with_host,
    wrong_with_origin,
    wrong_with_public_base,
)
from vsmgate.audit import AuditConfig
from vsmgate.config import Config, Role, TlsConfig
from vsmgate.errors import ConfigError, Problem
from vsmgate.forwarding import wrong_with_network
from vsmgate.permissions import wrong_entries
from vsmgate.settings import inline_secrets, join_key, parse_toml, read, read_toml
from vsmgate.targets import wrong_with_target

__all__ = ["load", "override", "parse"]

_FAMILIES = ("launchers", "authenticators", "usecases")

#: The Brayns client gives an opening handshake up after so many seconds.
_PATIENCE = 10.0
_ANY_ADDRESS = frozenset({"0.0.0.0", "::"})


def load(path: Path) -> Config:
    """Return the configuration in the file ``path``; raise `ConfigError` with every error.

    A ``state_dir`` in the file becomes absolute here, and so do the files of ``tls`` and ``audit``.
    """
    table = read_toml(path)
    config = _checked(table, str(path))
    folder = path.resolve().parent
    if "state_dir" in table:
        config = replace(config, state_dir=str(folder / config.state_dir))
    if config.audit.file is not None:
        config = replace(config, audit=AuditConfig(str(folder / config.audit.file)))
    master = replace(config.master, tls=_placed(config.master.tls, folder))
    relay = replace(config.relay, tls=_placed(config.relay.tls, folder))
    return replace(config, master=master, relay=relay)


def _placed(tls: TlsConfig | None, folder: Path) -> TlsConfig | None:
    if tls is None:
        return None
    certificate, key = str(folder / tls.certificate_file), str(folder / tls.key_file)
    return replace(tls, certificate_file=certificate, key_file=key)


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
    if config.relay.tls is not None:
        return replace(config, relay=replace(config.relay, tls_public=True))
    return config


def _with_plugins(table: dict[str, Any]) -> dict[str, Any]:
    """Return ``table`` with every plugin table in the layout of `PluginConfig`."""

    def split(plugin: Any, ours: Collection[str] = ("kind",)) -> Any:
        if not isinstance(plugin, dict):
            return plugin
        settings = {key: value for key, value in plugin.items() if key not in ours}
        return {**{key: plugin[key] for key in ours if key in plugin}, "settings": settings}

    changed = dict(table)
    if "store" in table:
        changed["store"] = split(table["store"])
    for family in _FAMILIES:
        if isinstance(table.get(family), dict):
            ours = ("kind", "targets") if family == "launchers" else ("kind",)
            changed[family] = {name: split(plugin, ours) for name, plugin in table[family].items()}
    return changed


def _conflicts(config: Config) -> Iterator[Problem]:
    """Yield the problems of ``config``."""
    master, relay, jobs = config.master, config.relay, config.jobs
    for where, face in (("master", master), ("relay", relay)):
        if wrong := wrong_with_host(face.host):
            yield Problem(f"{where}.host", f"{face.host!r} {wrong}")
        for index, origin in enumerate(face.allowed_origins):
            if wrong := wrong_with_origin(origin):
                yield Problem(f"{where}.allowed_origins[{index}]", f"{origin!r} {wrong}")
        for index, entry in enumerate(face.trusted_proxies):
            if wrong := wrong_with_network(entry):
                yield Problem(f"{where}.trusted_proxies[{index}]", f"{entry!r} {wrong}")
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
    yield from _access(config)
    for name, plugin in config.launchers.items():
        for index, entry in enumerate(plugin.targets or ()):
            if wrong := wrong_with_target(entry):
                where = join_key("launchers", name)
                yield Problem(f"{where}.targets[{index}]", f"{entry!r} {wrong}")
    if not config.authenticators:
        yield Problem(
            "authenticators", _missing("authenticator", "authenticators.tokens", "static")
        )
    if config.role != "relay" and not config.launchers:
        yield Problem("launchers", _missing("launcher", "launchers.local", "local"))
    if config.role != "relay" and not config.usecases:
        yield Problem("usecases", _missing("source of use cases", "usecases.files", "toml"))


def _access(config: Config) -> Iterator[Problem]:
    """Yield what is wrong with the rules; a rule that names nothing would guard nothing."""
    access = config.access
    lists = {"access.administrators": access.administrators}
    for family, rules in (("usecases", access.usecases), ("launchers", access.launchers)):
        for name, rule in rules.items():
            lists[f"{join_key(f'access.{family}', name)}.allow"] = rule.allow
    for where, entries in lists.items():
        for index, wrong in wrong_entries(entries):
            yield Problem(f"{where}[{index}]", f"{entries[index]!r} {wrong}")
    if config.role != "relay":
        for name in access.launchers.keys() - config.launchers.keys():
            known = ", ".join(config.launchers) or "none"
            detail = f"no launcher {name!r} is configured; known: {known}"
            yield Problem(join_key("access.launchers", name), detail)


def _missing(what: str, table: str, kind: str) -> str:
    return f"no {what} is configured; add for example [{table}] with kind = {kind!r}"
