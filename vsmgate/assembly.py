"""From the configuration to made objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IReactorCore

from vsmgate.config import Config
from vsmgate.draft import Errors, Part, draft, read_plan
from vsmgate.errors import ConfigError, EngineRefused, Problem
from vsmgate.hands.lockfile import LockFile
from vsmgate.interfaces import IAuthenticator, IJobStore, ILauncher, ISingleMaster, ITargets
from vsmgate.model import Job, Usecase
from vsmgate.plugins import Registry
from vsmgate.targets import REMOTE, TargetRule, read_targets

__all__ = ["Assembly", "assemble"]


@dataclass(frozen=True)
class Assembly:
    """The made objects.

    ``nudges``: launcher's name -> what to call when its engine has news; whoever polls
    the engines puts it there. ``rules``: launcher's name -> where its jobs' services may be
    dialled. A relay by itself has neither launchers nor use cases, but their rules.
    ``locks``: what the process must have for itself while it runs.
    """

    store: IJobStore
    launchers: Mapping[str, ILauncher]
    authenticators: Sequence[IAuthenticator]
    usecases: Mapping[str, Usecase]
    factories: Mapping[str, Any]
    rules: Mapping[str, TargetRule]
    nudges: dict[str, Callable[[], None]] = field(default_factory=dict)
    locks: Sequence[LockFile] = ()

    def plan(self, job: Job) -> Any:
        """Return the plan for ``job``, out of its own copy of the use case.

        Raises `EngineRefused` when that does not fit the present configuration any more.
        """
        usecase = job.usecase
        factory = self.factories.get(usecase.launcher)
        if factory is None:
            detail = f"The launcher {usecase.launcher!r} is not configured any more."
            raise EngineRefused(detail, code="no_launcher")
        try:
            return read_plan(usecase, factory, f"use case {usecase.name}")
        except ConfigError as error:
            raise EngineRefused(str(error), code="bad_plan") from error


def assemble(
    config: Config,
    config_dir: Path,
    state_dir: Path,
    *,
    reactor: IReactorCore,
    wall: Callable[[], float],
    registry: Registry | None = None,
    source: str = "configuration",
) -> Assembly:
    """Make all that ``config`` names, and the state directory (mode 0700).

    Raises one `ConfigError` with every error; see `draft`.
    """
    nudges: dict[str, Callable[[], None]] = {}
    drafted = draft(
        config,
        config_dir,
        state_dir,
        reactor=reactor,
        wall=wall,
        registry=registry,
        source=source,
        nudges=nudges,
    )
    _make_folder(state_dir)
    master = config.role != "relay"
    errors = Errors()

    def make(parts: Mapping[str, Part]) -> dict[str, Any]:
        made = {}
        for name, part in parts.items():
            with errors.collect():
                made[name] = part.make()
        return made

    store = make({"store": drafted.store})
    launchers = make(drafted.launchers if master else {})
    authenticators = make(drafted.authenticators)
    errors.done()
    roles = [role for role in ("master", "relay") if config.role in (role, "all")]
    locks = [LockFile(state_dir / f"{role}.lock") for role in roles]
    if master and ISingleMaster.providedBy(store["store"]):
        locks.append(LockFile(store["store"].lock, "job store", "store.url"))
    return Assembly(
        store["store"],
        launchers,
        tuple(authenticators.values()),
        drafted.usecases if master else {},
        {name: drafted.launchers[name].factory for name in launchers},
        {n: _rule(part, config.launchers[n].targets) for n, part in drafted.launchers.items()},
        nudges,
        locks,
    )


def _rule(launcher: Part, configured: Sequence[str] | None) -> TargetRule:
    """Return where the services of a launcher's jobs may be dialled."""
    if configured is not None:
        return read_targets(configured)
    knows = ITargets(launcher.factory, None)
    return REMOTE if knows is None else read_targets(knows.targets(launcher.settings))


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        problem = Problem("state_dir", f"this folder cannot be made: {reason}")
        raise ConfigError(str(folder), [problem]) from None
