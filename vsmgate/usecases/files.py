"""Use cases out of a folder of TOML files: one file, one use case.

A file has the layout of `vsmgate.model.Usecase`; ``name`` may be left out, and is then
the file's name without ``.toml``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace
from zope.interface import implementer

from vsmgate import shipped
from vsmgate.errors import ConfigError, Problem
from vsmgate.interfaces import Context, IUsecaseSource, IUsecaseSourceFactory
from vsmgate.model import Service, Usecase, View
from vsmgate.parameters import check_schema
from vsmgate.settings import join_key, read, read_toml

__all__ = ["TomlSource", "TomlSourceFactory", "TomlSourceSettings"]

#: What may stand in a request line (RFC 3986, section 3.3 and 3.4).
_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@/?%-]*", re.ASCII)


class TomlSourceSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The table of a use case source of ``kind = "toml"``.

    ``folder``: where the files are; without it, those that come with vsmgate. ``launcher``:
    what all of them say as ``launcher``, whatever stands in them.
    """

    folder: str | None = None
    launcher: str | tuple[str, ...] | None = None


@implementer(IUsecaseSourceFactory)
class TomlSourceFactory:
    """Makes sources from folders."""

    kind = "toml"
    help = "A folder of TOML files, one for each use case."
    settings = TomlSourceSettings

    def make(self, settings: TomlSourceSettings, context: Context) -> TomlSource:
        if settings.folder is None:
            return TomlSource(shipped.conf_folder() / "usecases", settings.launcher)
        return TomlSource(context.config_dir / settings.folder, settings.launcher)


@implementer(IUsecaseSource)
class TomlSource:
    """Reads the files of a folder whose names end with ``.toml``.

    ``launcher``: see `TomlSourceSettings`.
    """

    def __init__(self, folder: Path, launcher: str | tuple[str, ...] | None = None) -> None:
        self._folder = folder
        self._launcher = launcher
        self._origins: dict[str, Path] = {}

    def usecases(self) -> Sequence[Usecase]:
        found: dict[str, Usecase] = {}
        origins: dict[str, Path] = {}
        errors: list[ConfigError] = []
        for path in self._files():
            try:
                usecase = read_usecase(path, self._launcher)
                if usecase.name in found:
                    detail = f"{usecase.name!r} is the name in {origins[usecase.name]} too"
                    raise ConfigError(str(path), [Problem("name", f"{detail}; rename one of them")])
            except ConfigError as error:
                errors.append(error)
            else:
                found[usecase.name] = usecase
                origins[usecase.name] = path
        if errors:
            first, *rest = errors
            raise ConfigError(first.source, first.problems, rest)
        self._origins = origins
        return tuple(found.values())

    def origin(self, name: str) -> str:
        return str(self._origins.get(name, self._folder))

    def _files(self) -> Sequence[Path]:
        try:
            entries = sorted(self._folder.iterdir())
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            detail = f"use cases cannot be read from this folder: {reason}"
            raise ConfigError(str(self._folder), [Problem("", detail)]) from None
        files = [p for p in entries if p.suffix == ".toml" and not p.name.startswith(".")]
        if not files:
            detail = "has no use case: put a TOML file for each into this folder"
            raise ConfigError(str(self._folder), [Problem("", detail)])
        return files


def read_usecase(path: Path, launcher: str | tuple[str, ...] | None = None) -> Usecase:
    """Return the use case in the file ``path``; raise `ConfigError` with every error.

    Its plans are tables still: only its launcher's type can read them. ``launcher``: instead
    of what the file says.
    """
    table = {"name": path.stem, **read_toml(path)}
    if launcher is not None:
        table["launcher"] = launcher
    if "fallbacks" in table:
        detail = "unknown key; write launcher = [...], the preferred one first"
        raise ConfigError(str(path), [Problem("fallbacks", detail)])
    named = table.get("launcher")
    if isinstance(named, list | tuple) and named and all(isinstance(n, str) for n in named):
        table["launcher"], table["fallbacks"] = named[0], list(named[1:])
    usecase = _placed(read(Usecase, table, source=str(path)), path.resolve().parent)
    if problems := tuple(_conflicts(usecase)):
        raise ConfigError(str(path), problems)
    return usecase


def _placed(usecase: Usecase, folder: Path) -> Usecase:
    """Return ``usecase`` with the files that it names made absolute; they start at ``folder``."""
    services = {}
    for name, service in usecase.services.items():
        tls = service.tls
        if tls is not None and tls.ca is not None:
            service = replace(service, tls=replace(tls, ca=str(folder / tls.ca)))
        services[name] = service
    return replace(usecase, services=services)


def _conflicts(usecase: Usecase) -> Iterator[Problem]:
    """Yield what is wrong although each value has the right type."""
    if not usecase.services:
        detail = "a use case needs a service at least, such as [services.renderer]"
        yield Problem("services", detail)
    for name, service in usecase.services.items():
        where = join_key("services", name)
        for pointer, path in (("path", service.path), ("health.http", service.health.http)):
            if path is not None and not _PATH.fullmatch(path):
                detail = f"{path!r} is no path of a URL, such as '/' or '/healthz'"
                yield Problem(f"{where}.{pointer}", detail)
        yield from _view_conflicts(usecase, service, where)
        ca = service.tls.ca if service.tls else None
        if ca is not None and not Path(ca).is_file():
            yield Problem(f"{where}.tls.ca", f"{ca!r} is no file of certificates")
    if len(set(usecase.choices)) < len(usecase.choices):
        detail = f"{', '.join(usecase.choices)}: each launcher is to be named once"
        yield Problem("launcher", detail)
    limits = usecase.limits
    if limits.lifetime and limits.max_lifetime and limits.lifetime > limits.max_lifetime:
        detail = f"{limits.lifetime:g} is more than limits.max_lifetime ({limits.max_lifetime:g})"
        yield Problem("limits.lifetime", detail)
    for sentence in check_schema(usecase.parameters):
        yield Problem("parameters", sentence)


def _view_conflicts(usecase: Usecase, service: Service, where: str) -> Iterator[Problem]:
    """Yield what keeps viewers of ``service`` from being kept to what is declared."""
    if service.view is View.NONE and not service.view_methods:
        return
    if (service.view in (View.JSONRPC, View.BRAYNS)) is not bool(service.view_methods):
        detail = "goes with view = 'jsonrpc' or 'brayns', which need at least one method"
        yield Problem(f"{where}.view_methods", detail)
    if service.http:
        detail = "what viewers ask of pages cannot be told apart; leave it out, or http"
        yield Problem(f"{where}.view", detail)
    if usecase.tokenless:
        detail = "whoever knows a job's id may control it; leave it out, or tokenless"
        yield Problem(f"{where}.view", detail)
