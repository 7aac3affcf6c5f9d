"""What is wrong with a configuration although each value has the right type. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vsmgate.addresses import (
    wrong_with_base_path,
    wrong_with_host,
    wrong_with_origin,
    wrong_with_public_base,
)
from vsmgate.errors import Problem
from vsmgate.forwarding import wrong_with_network
from vsmgate.permissions import wrong_entries
from vsmgate.settings import join_key
from vsmgate.targets import wrong_with_target

if TYPE_CHECKING:
    from vsmgate.config import Config

__all__ = ["conflicts"]

#: The Brayns client gives an opening handshake up after so many seconds.
_PATIENCE = 10.0
_ANY_ADDRESS = frozenset({"0.0.0.0", "::"})


def conflicts(config: Config) -> Iterator[Problem]:
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
