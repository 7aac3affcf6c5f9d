"""The registry of plugin factories: Twisted's own drop-ins, for all four kinds.

A drop-in is a module in a ``twisted.plugins`` package (this distribution's own are in
``plugins/``), or in a folder that the operator names. What it holds at its top level
and provides one of the factory interfaces of `vsmgate.interfaces` is a plugin.

Twisted only logs a drop-in that cannot be imported, and then knows nothing of it. Here
it is kept with its error, and named when somebody asks for a kind that is not there.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import twisted.plugins
from twisted.plugin import getCache
from zope.interface.exceptions import Invalid
from zope.interface.interface import InterfaceClass
from zope.interface.verify import verifyObject

from vsmgate.errors import ConfigError, Problem

__all__ = ["Registry"]


class Registry:
    """All plugin factories that can be found.

    ``folders``: the operator's, absolute; they join ``twisted.plugins`` for the rest of the
    process. ``broken``: file -> error of the drop-ins that cannot be used.

    Raises `vsmgate.errors.ConfigError` for a folder that is not there.
    """

    def __init__(self, folders: Sequence[Path] = ()) -> None:
        _join(folders)
        self._dropins = getCache(twisted.plugins)
        self.broken: dict[str, str] = dict(_broken(self._dropins))

    def factories(self, interface: InterfaceClass) -> Mapping[str, Any]:
        """Return kind -> factory of ``interface``, e.g. `ILauncherFactory`.

        Raises `ConfigError` when two factories claim one kind.
        """
        found: dict[str, tuple[str, Any]] = {}
        problems = []
        for file, factory in self._providers(interface):
            home, other = found.setdefault(factory.kind, (file, factory))
            if other is not factory:
                problems.append(
                    Problem(
                        factory.kind,
                        f"two plugins are this kind of {_noun(interface)}: {home} and {file}; "
                        "remove one of these files, or rename its kind",
                    )
                )
        if problems:
            raise ConfigError("plugins", problems)
        return {kind: factory for kind, (_, factory) in sorted(found.items())}

    def factory(
        self,
        interface: InterfaceClass,
        kind: str,
        *,
        source: str = "plugins",
        pointer: str = "kind",
    ) -> Any:
        """Return the factory of ``kind``.

        Raises `ConfigError` (about the key ``pointer`` of the file ``source``) that
        lists the known kinds, and every drop-in that cannot be used with its error.
        """
        known = self.factories(interface)
        if kind in known:
            return known[kind]
        detail = f"unknown {_noun(interface)} {kind!r}; known: {', '.join(known) or 'none'}"
        if self.broken:
            detail += "; these plugin files could not be used: " + "; ".join(
                f"{file}: {error}" for file, error in sorted(self.broken.items())
            )
        raise ConfigError(source, [Problem(pointer, detail)])

    def _providers(self, interface: InterfaceClass) -> Iterator[tuple[str, Any]]:
        """Yield (file, factory) for each that is what it says."""
        for dropin in self._dropins.values():
            for plugin in dropin.plugins:
                try:
                    factory = interface(plugin, None)  # imports it only if it provides it
                    if factory is None:
                        continue
                    verifyObject(interface, factory)
                    if not isinstance(factory.kind, str):
                        raise TypeError(f"kind = {factory.kind!r} is not a string")
                except Invalid as error:
                    self.broken[_file(dropin.moduleName)] = " ".join(str(error).split())
                except Exception as error:  # a plugin may raise anything at its import
                    self.broken[_file(dropin.moduleName)] = _said(error)
                else:
                    yield _file(dropin.moduleName), factory


def _join(folders: Sequence[Path]) -> None:
    """Make ``folders`` part of the package ``twisted.plugins``."""
    missing = [folder for folder in folders if not folder.is_dir()]
    if missing:
        raise ConfigError(
            "plugins",
            [Problem("plugin_folders", f"{folder} is not a folder") for folder in missing],
        )
    for folder in map(str, folders):
        if folder not in twisted.plugins.__path__:
            twisted.plugins.__path__.append(folder)


def _broken(dropins: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Yield (file, error) of the drop-ins that Twisted's cache had to leave out."""
    homes: dict[str, Path] = {}
    for folder in twisted.plugins.__path__:
        for file in sorted(Path(folder).glob("*.py")):
            if not file.stem.isidentifier() or file.stem == "__init__":
                continue
            home = homes.setdefault(file.stem, file)
            if not home.samefile(file):
                yield str(file), f"never read, as {home} has the same name; rename one"
            elif file.stem not in dropins:
                try:
                    importlib.import_module(f"twisted.plugins.{file.stem}")
                except (Exception, SystemExit) as error:
                    yield str(file), _said(error)


def _file(module: str) -> str:
    """Return the file of a drop-in, or its module name while it is not imported."""
    return getattr(sys.modules.get(module), "__file__", None) or module


def _said(error: BaseException) -> str:
    """Return an error as one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def _noun(interface: InterfaceClass) -> str:
    """Return what people call what the factory makes: ``ILauncherFactory`` -> launcher."""
    words = {
        "ILauncherFactory": "launcher",
        "IAuthenticatorFactory": "authenticator",
        "IUsecaseSourceFactory": "use case source",
        "IJobStoreFactory": "job store",
    }
    return words.get(interface.__name__, interface.__name__)
