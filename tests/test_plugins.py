"""The registry: what is found, what is refused, and that broken drop-ins are named."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import twisted.plugins
from twisted.application.service import IServiceMaker
from twisted.plugin import IPlugin, getPlugins
from zope.interface.verify import verifyObject

from vsmgate import interfaces
from vsmgate.errors import ConfigError
from vsmgate.plugins import Registry

ROOT = Path(__file__).parent.parent

LAUNCHER = """
from zope.interface import implementer

from vsmgate.interfaces import ILauncherFactory


@implementer(ILauncherFactory)
class Factory:
    kind = {kind!r}
    help = "For tests."
    settings = plan = object

    def make(self, settings, context):
        raise NotImplementedError

    def check(self, usecase, plan):
        return ()


factory = Factory()
"""

Dropin = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Give an operator's folder, and let twisted.plugins forget it afterwards."""
    path, modules = list(twisted.plugins.__path__), set(sys.modules)
    yield tmp_path
    twisted.plugins.__path__[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith("twisted.plugins."):
            del sys.modules[name]


@pytest.fixture
def dropin(folder: Path) -> Dropin:
    """Write a drop-in of a name that no other test uses."""

    def write(source: str, *, into: Path = folder, name: str = "") -> Path:
        file = into / f"{name or f'dropin_{uuid.uuid4().hex}'}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(dedent(source))
        return file

    return write


BUILT_IN = [
    (interfaces.ILauncherFactory, "local"),
    (interfaces.IAuthenticatorFactory, "static"),
    (interfaces.IUsecaseSourceFactory, "toml"),
    (interfaces.IJobStoreFactory, "sql"),
]


@pytest.mark.parametrize(("interface", "kind"), BUILT_IN)
def test_built_in_plugins_are_found(interface: Any, kind: str) -> None:
    factory = Registry().factory(interface, kind)
    verifyObject(interface, factory)
    verifyObject(IPlugin, factory)
    assert factory.kind == kind
    assert "\n" not in factory.help


def test_the_twistd_service_is_found() -> None:
    (maker,) = [m for m in getPlugins(IServiceMaker) if m.tapname == "vsmgate"]
    assert maker.module == "vsmgate.tap"


def test_this_distribution_has_no_broken_dropin() -> None:
    registry = Registry()
    for interface, _ in BUILT_IN:
        registry.factories(interface)
    ours = [file for file in registry.broken if Path(file).parent == ROOT / "plugins"]
    assert not ours, registry.broken


def test_operator_folders_are_searched(folder: Path, dropin: Dropin) -> None:
    dropin(LAUNCHER.format(kind="abacus"))
    factories = Registry([folder]).factories(interfaces.ILauncherFactory)
    assert factories["abacus"].help == "For tests."
    assert "abacus" not in Registry().factories(interfaces.IAuthenticatorFactory)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"plugin_folders: .*nowhere is not a folder"):
        Registry([tmp_path / "nowhere"])


def test_an_unknown_kind_lists_the_known_ones(folder: Path, dropin: Dropin) -> None:
    dropin(LAUNCHER.format(kind="abacus"))
    with pytest.raises(ConfigError) as caught:
        Registry([folder]).factory(
            interfaces.ILauncherFactory, "slrum", source="site.toml", pointer="launchers.x.kind"
        )
    assert str(caught.value).startswith(
        "site.toml: launchers.x.kind: unknown launcher 'slrum'; known: abacus, "
    )
    assert ", local" in str(caught.value)


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("import no_such_library", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("1 +", "SyntaxError: invalid syntax"),
        ("raise SystemExit('out')", "SystemExit: out"),
    ],
)
def test_an_unknown_kind_names_dropins_that_do_not_import(
    folder: Path,
    dropin: Dropin,
    flush_logged: Callable[..., list[Any]],
    source: str,
    error: str,
) -> None:
    broken = dropin(source)
    dropin(LAUNCHER.format(kind="abacus"))
    registry = Registry([folder])
    assert flush_logged(), "Twisted logs it as well"
    assert registry.broken[str(broken)].startswith(error)
    with pytest.raises(ConfigError) as caught:
        registry.factory(interfaces.ILauncherFactory, "pbs")
    assert f"{broken}: {error}" in str(caught.value)
    assert registry.factory(interfaces.ILauncherFactory, "abacus"), "the others still work"


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        ("def check", "def chek", "check"),
        ("settings, context", "settings", "make"),
        ("kind =", "name =", "kind"),
        ("'abacus'", "5", "kind = 5 is not a string"),
    ],
)
def test_a_plugin_that_breaks_its_interface_is_named(
    folder: Path, dropin: Dropin, right: str, wrong: str, told: str
) -> None:
    broken = dropin(LAUNCHER.format(kind="abacus").replace(right, wrong))
    with pytest.raises(ConfigError) as caught:
        Registry([folder]).factory(interfaces.ILauncherFactory, "abacus")
    assert str(broken) in str(caught.value)
    assert told in str(caught.value).partition(str(broken))[2]


def test_one_kind_twice_is_an_error(folder: Path, dropin: Dropin) -> None:
    files = [dropin(LAUNCHER.format(kind="abacus")) for _ in range(2)]
    with pytest.raises(ConfigError, match="two plugins are this kind of launcher") as caught:
        Registry([folder]).factory(interfaces.ILauncherFactory, "local")
    assert all(str(file) in str(caught.value) for file in files)


def test_one_factory_under_two_names_is_one(folder: Path, dropin: Dropin) -> None:
    dropin(LAUNCHER.format(kind="abacus") + "\nalias = factory\n")
    assert Registry([folder]).factory(interfaces.ILauncherFactory, "abacus").kind == "abacus"


def test_a_file_name_that_is_taken_is_told(folder: Path, dropin: Dropin) -> None:
    name = f"taken_{uuid.uuid4().hex}"
    first = dropin(LAUNCHER.format(kind="abacus"), into=folder / "a", name=name)
    second = dropin(LAUNCHER.format(kind="beads"), into=folder / "b", name=name)
    registry = Registry([folder / "a", folder / "b"])
    assert f"{first} has the same name" in registry.broken[str(second)]


def test_a_folder_that_cannot_be_written_is_fine(folder: Path, dropin: Dropin) -> None:
    dropin(LAUNCHER.format(kind="abacus"))
    (folder / "dropin.cache").mkdir()  # nobody, not even root, can write a file there
    assert Registry([folder]).factory(interfaces.ILauncherFactory, "abacus")


def test_finding_plugins_is_cheap(tmp_path: Path) -> None:
    """Neither the reactor nor a heavy library is imported until a plugin makes something."""
    heavy = ("twisted.internet.reactor", "sqlalchemy", "alembic", "autobahn", "numpy", "treq")
    program = f"""
        import sys
        import twisted.plugins
        twisted.plugins.__path__.append({str(ROOT / "plugins")!r})
        from vsmgate import interfaces
        from vsmgate.plugins import Registry

        registry = Registry()
        for name in {[interface.__name__ for interface, _ in BUILT_IN]!r}:
            assert registry.factories(getattr(interfaces, name)), (name, registry.broken)
        print(*[name for name in {heavy!r} if name in sys.modules])
    """
    done = subprocess.run(
        [sys.executable, "-c", dedent(program)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
