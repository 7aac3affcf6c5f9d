"""What a configuration names, read and found good, before anything is made.

Plugins and their settings, use cases and their plans: ``vsmgate check`` stops here, and
`vsmgate.assembly` goes on. Every error of every file is found at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from msgspec import structs
from twisted.internet.interfaces import IReactorCore
from zope.interface.interface import InterfaceClass

from vsmgate import shipped
from vsmgate.config import Config, PluginConfig
from vsmgate.errors import ConfigError, Problem
from vsmgate.hands.certificates import Certificates
from vsmgate.interfaces import (
    Context,
    IAuthenticatorFactory,
    IJobStoreFactory,
    ILauncherFactory,
    ISettingsChecker,
    IUsecaseSource,
    IUsecaseSourceFactory,
)
from vsmgate.model import Usecase
from vsmgate.plugins import Registry
from vsmgate.settings import join_key, read

__all__ = ["Draft", "Errors", "Part", "draft", "read_plan", "registry_of"]


@dataclass(frozen=True)
class Part:
    """A configured plugin: its factory and its settings, read."""

    factory: Any
    settings: Any
    context: Context

    def make(self) -> Any:
        """Return the working object; raise `ConfigError`."""
        return self.factory.make(self.settings, self.context)


@dataclass(frozen=True)
class Draft:
    """All that a configuration names, read and found good; nothing is made."""

    store: Part
    launchers: Mapping[str, Part]
    authenticators: Mapping[str, Part]
    usecases: Mapping[str, Usecase]


class Errors:
    """Collects configuration errors, to raise them together."""

    def __init__(self) -> None:
        self._found: list[ConfigError] = []

    @contextmanager
    def collect(self) -> Iterator[None]:
        """Keep a `ConfigError` and go on after the block."""
        try:
            yield
        except ConfigError as error:
            self.keep(error)

    def keep(self, error: ConfigError) -> None:
        """Keep ``error``."""
        self._found.append(error)

    def done(self) -> None:
        """Raise what was kept, as one."""
        if self._found:
            first, *rest = self._found
            raise ConfigError(first.source, first.problems, [*first.also, *rest])


def registry_of(config: Config, config_dir: Path) -> Registry:
    """Return the plugins that ``config`` may name: installed ones, and the operator's."""
    folders = (config_dir / folder for folder in config.plugin_folders)
    return Registry([*shipped.plugins(), *folders])


def draft(
    config: Config,
    config_dir: Path,
    state_dir: Path,
    *,
    reactor: IReactorCore,
    wall: Callable[[], float],
    registry: Registry | None = None,
    source: str = "configuration",
    nudges: Mapping[str, Callable[[], None]] | None = None,
) -> Draft:
    """Read all that ``config`` names; raise one `ConfigError` with every error.

    ``source``: what errors call the configuration. Writes nothing and opens no port.
    """
    if registry is None:
        registry = registry_of(config, config_dir)
    context = Context("", reactor, wall, state_dir, config_dir)
    reader = _Reader(registry, context, source, {} if nudges is None else nudges)
    store = reader.parts(IJobStoreFactory, {"store": config.store})
    launchers = reader.parts(ILauncherFactory, config.launchers, "launchers")
    authenticators = reader.parts(IAuthenticatorFactory, config.authenticators, "authenticators")
    sources = reader.parts(IUsecaseSourceFactory, config.usecases, "usecases")
    usecases: dict[str, Usecase] = {}
    if config.role != "relay":
        usecases = reader.usecases(sources, launchers, config)
    for where, face in (("master", config.master), ("relay", config.relay)):
        with reader.errors.collect():
            if face.tls is not None:
                Certificates(face.tls, f"{where}.tls", source)
    reader.errors.done()
    return Draft(store["store"], launchers, authenticators, usecases)


class _Reader:
    """Reads what a draft consists of, and keeps the errors in ``errors``."""

    def __init__(
        self,
        registry: Registry,
        context: Context,
        source: str,
        nudges: Mapping[str, Callable[[], None]],
    ) -> None:
        self.errors = Errors()
        self._registry = registry
        self._context = context
        self._source = source
        self._nudges = nudges

    def parts(
        self, interface: InterfaceClass, plugins: Mapping[str, PluginConfig], family: str = ""
    ) -> dict[str, Part]:
        """Return the good ones of one family's plugins."""
        parts = {}
        for name, plugin in plugins.items():
            with self.errors.collect():
                where = join_key(family, name)
                parts[name] = self._part(interface, where, name, plugin)
        return parts

    def _part(self, interface: InterfaceClass, where: str, name: str, plugin: PluginConfig) -> Part:
        factory = self._registry.factory(
            interface, plugin.kind, source=self._source, pointer=f"{where}.kind"
        )
        settings = read(factory.settings, plugin.settings, source=self._source, where=where)
        context = replace(self._context, name=name, nudge=lambda: self._nudges.get(name, _noop)())
        checker = ISettingsChecker(factory, None)
        if checker is not None:
            try:
                checker.inspect(settings, context)
            except ConfigError as error:
                if error.source not in (name, where, "configuration"):  # a file of its own
                    raise
                raise ConfigError(self._source, error.problems, error.also) from None
        return Part(factory, settings, context)

    def usecases(
        self, sources: Mapping[str, Part], launchers: Mapping[str, Part], config: Config
    ) -> dict[str, Usecase]:
        """Return all use cases by name, each with a plan that its launcher takes."""
        found: dict[str, Usecase] = {}
        origins: dict[str, str] = {}
        complete = len(sources) == len(config.usecases)
        for part in sources.values():
            try:
                source: IUsecaseSource = part.make()
                usecases = source.usecases()
            except ConfigError as error:
                self.errors.keep(error)
                complete = False
                continue
            for usecase in usecases:
                origin = source.origin(usecase.name)
                with self.errors.collect():
                    if usecase.name in found:
                        detail = f"{usecase.name!r} comes from {origins[usecase.name]} too"
                        raise ConfigError(origin, [Problem("name", f"{detail}; rename one")])
                    found[usecase.name], origins[usecase.name] = usecase, origin
                    found[usecase.name] = _with_plans(usecase, origin, launchers, config)
        default = config.jobs.default_usecase
        if complete and default not in found:
            detail = f"no use case is named {default!r}; known: {', '.join(sorted(found))}"
            problem = Problem("jobs.default_usecase", detail)
            self.errors.keep(ConfigError(self._source, [problem]))
        if complete:
            self._check_names(found, config)
        return found

    def _check_names(self, found: Mapping[str, Usecase], config: Config) -> None:
        """Rules and quotas of use cases that are not there would be slips that guard nothing."""
        tables: dict[str, Mapping[str, Any]] = {
            "access.usecases": config.access.usecases,
            "jobs.max_per_usecase": config.jobs.max_per_usecase,
        }
        for where, names in tables.items():
            for name in names.keys() - found.keys():
                detail = f"no use case is named {name!r}; known: {', '.join(sorted(found))}"
                problem = Problem(join_key(where, name), detail)
                self.errors.keep(ConfigError(self._source, [problem]))


def _with_plans(
    usecase: Usecase, origin: str, launchers: Mapping[str, Part], config: Config
) -> Usecase:
    """Return a use case with those of its launchers that it has a plan for.

    One at least it must have. Raises what is wrong between it, its plans and its launchers.
    """
    fitting = []
    for name in usecase.choices:
        if name not in config.launchers:
            known = ", ".join(config.launchers) or "none"
            detail = f"no launcher {name!r} is configured; known: {known}"
            raise ConfigError(origin, [Problem("launcher", detail)])
        part = launchers.get(name)  # if it is not there, what is wrong with it is known already
        if part is None or part.factory.kind in usecase.launch:
            fitting.append(name)
    fitting = fitting or [usecase.launcher]
    for name in fitting:
        if name in launchers:
            chosen = structs.replace(usecase, launcher=name)
            _check_plan(chosen, origin, launchers[name])
    return structs.replace(usecase, launcher=fitting[0], fallbacks=tuple(fitting[1:]))


def _check_plan(usecase: Usecase, origin: str, part: Part) -> None:
    """Raise what is wrong between a use case, its plan and its launcher."""
    plan = read_plan(usecase, part.factory, origin)
    where = f"launch.{part.factory.kind}"
    problems = [
        Problem("" if wrong.startswith(where) else where, wrong)  # it may name the key itself
        for wrong in part.factory.check(usecase, plan)
    ]
    if problems:
        raise ConfigError(origin, problems)


def read_plan(usecase: Usecase, factory: Any, origin: str) -> Any:
    """Return ``usecase``'s plan as the type of its launcher's ``factory``.

    Raises `ConfigError` about the file ``origin``.
    """
    where = f"launch.{factory.kind}"
    if factory.kind not in usecase.launch:
        detail = f"is required: the launcher {usecase.launcher!r} is of kind {factory.kind!r}"
        raise ConfigError(origin, [Problem(where, detail)])
    return read(factory.plan, usecase.launch[factory.kind], source=origin, where=where)


def _noop() -> None:
    """Nobody waits for this launcher's news (yet)."""
