"""Rules of access: who may start what, and who administers. Pure.

An entry of a rule is a subject, or ``group:NAME`` for all who are in that group. Rules
count when a job is started; what was started stays its owner's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated

from msgspec import Meta, Struct
from msgspec.structs import replace

from vsmgate.model import Identity, Usecase

__all__ = ["AccessConfig", "Permissions", "Rule", "wrong_entries"]

_GROUP = "group:"


class Rule(Struct, frozen=True, forbid_unknown_fields=True):
    """One rule: ``allow`` lists who may; nobody with an empty list."""

    allow: tuple[str, ...]


class AccessConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """``[access]``: what identities may do.

    ``usecases``, ``launchers``: name -> who may start it, or anything on it; without a
    rule everybody who has an identity. ``failures_per_minute``: how many bad credentials
    one address may show; see `vsmgate.strikes`.
    """

    administrators: tuple[str, ...] = ()
    usecases: dict[str, Rule] = {}
    launchers: dict[str, Rule] = {}
    failures_per_minute: Annotated[int, Meta(ge=1)] = 60


class Permissions:
    """Answers by the rules of ``config``."""

    def __init__(self, config: AccessConfig) -> None:
        self._config = config

    def administers(self, identity: Identity) -> bool:
        """Whether ``identity`` may see and end everybody's jobs."""
        return _names(self._config.administrators, identity)

    def allowed(self, identity: Identity, usecase: Usecase) -> Usecase | None:
        """Return ``usecase`` with those of its launchers that ``identity`` may use.

        None where there is no such launcher, or where the use case's own rule forbids it.
        """
        if not _passes(self._config.usecases.get(usecase.name), identity):
            return None
        rules = self._config.launchers
        choices = [name for name in usecase.choices if _passes(rules.get(name), identity)]
        if not choices:
            return None
        return replace(usecase, launcher=choices[0], fallbacks=tuple(choices[1:]))

    def startable(
        self, identity: Identity, usecases: Mapping[str, Usecase]
    ) -> Mapping[str, Usecase]:
        """Return those of ``usecases`` that ``identity`` may start."""
        asked = {name: self.allowed(identity, case) for name, case in usecases.items()}
        return {name: case for name, case in asked.items() if case is not None}


def wrong_entries(entries: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Yield the index of each entry that can name nobody, and what is wrong with it."""
    for index, entry in enumerate(entries):
        if not entry.removeprefix(_GROUP).strip() or entry != entry.strip():
            yield index, "names nobody; write a subject, such as 'ada', or 'group:NAME'"


def _passes(rule: Rule | None, identity: Identity) -> bool:
    return rule is None or _names(rule.allow, identity)


def _names(entries: Iterable[str], identity: Identity) -> bool:
    """Return whether one of ``entries`` means ``identity``; no subject is taken for a group."""
    for entry in entries:
        if entry.startswith(_GROUP):
            if entry[len(_GROUP) :] in identity.groups:
                return True
        elif entry == identity.subject:
            return True
    return False
