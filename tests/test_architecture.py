"""The layers and the habits of the package, enforced by reading its imports.

::

    roof       tap, cli, gateway, announcement, assembly, draft, plugins, logs: wiring, the reactor
    house      jobs, api, relay: services and faces
    families   launchers, auth, usecases, stores: handed in through vsmgate.interfaces
    hands      one I/O library each
    ground     the other modules at the top: pure

Arrows only point down. ``demo`` stands alone, ``simulators`` (stand-ins for engines) nearly;
``testing`` may import anything.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import packages_distributions
from importlib.util import resolve_name
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

ROOF = {
    *(
        "vsmgate.tap",
        "vsmgate.cli",
        "vsmgate.__main__",
        "vsmgate.gateway",
        "vsmgate.assembly",
        "vsmgate.draft",
    ),
    "vsmgate.announcement", "vsmgate.logs", "vsmgate.plugins", "vsmgate.signals",
    "vsmgate.engines", "vsmgate.worker", "vsmgate.guard", "vsmgate.token_command",
    "vsmgate.local_jobs_command",
}  # fmt: skip
HOUSE = {"api", "jobs", "relay"}
FAMILIES = {"auth", "launchers", "stores", "usecases"}

#: group -> the groups that it may import from, besides itself.
BELOW: Mapping[str, set[str]] = {
    "ground": set(),
    "hands": {"ground"},
    **{family: {"hands", "ground"} for family in FAMILIES},
    **{part: {*HOUSE, "hands", "ground"} for part in HOUSE},
    "roof": {*HOUSE, *FAMILIES, "hands", "ground"},
    "demo": set(),
    "simulators": {"hands", "ground"},
    "testing": {"roof", *HOUSE, *FAMILIES, "hands", "ground", "demo", "simulators"},
}

#: What pure modules may import besides the standard library (and not all of that).
GROUND_LIBRARIES = {
    "jsonschema", "msgspec", "referencing", "twisted.internet.interfaces", "zope.interface",
    "twisted.plugin.IPlugin",  # an interface too
}  # fmt: skip
IMPURE = {
    "fcntl", "http.client", "http.server", "logging", "multiprocessing", "select",
    "selectors", "signal", "socket", "sqlite3", "ssl", "subprocess", "threading",
    "urllib.request",
}  # fmt: skip

#: I/O library -> what may import it; of the hands, only one module each.
OWNERS: Mapping[str, set[str]] = {
    "alembic": {"vsmgate.stores"},
    "autobahn": {"vsmgate.hands", "vsmgate.demo", "vsmgate.testing"},
    "botocore": {"vsmgate.hands", "vsmgate.simulators"},
    "moto": {"vsmgate.simulators"},
    "numpy": {"vsmgate.demo"},
    "PIL": {"vsmgate.demo"},
    "trame": {"vsmgate.demo"},
    "viser": {"vsmgate.demo"},
    "vtk": {"vsmgate.demo"},
    "sqlalchemy": {"vsmgate.hands", "vsmgate.stores"},
    "sqlite3": {"vsmgate.hands"},
    "subprocess": {
        "vsmgate.launchers.local_supervisor", "vsmgate.demo", "vsmgate.testing",
        "vsmgate.simulators",
    },
    "treq": {"vsmgate.hands", "vsmgate.testing"},
    "twisted.python.threadpool": {"vsmgate.hands", "vsmgate.demo"},
    "twisted.web.client": {"vsmgate.hands", "vsmgate.testing"},
}  # fmt: skip

#: The only places that may read a clock of the system, or take the global reactor.
EDGES = {
    "vsmgate.tap", "vsmgate.cli", "vsmgate.worker", "vsmgate.demo", "vsmgate.testing",
    "vsmgate.simulators", "vsmgate.token_command",
    "vsmgate.launchers.local_supervisor",  # a program of its own
}  # fmt: skip
CLOCKS = {"time.time", "time.time_ns", "time.monotonic", "time.sleep", "datetime.datetime.now"}

CEILING = 300
#: Word lists, which are looked up and not read through, may be longer.
WORD_LISTS = {"vsmgate.errors": 500, "vsmgate.interfaces": 450, "vsmgate.model": 450}
VAGUE = {"common", "helper", "helpers", "manager", "misc", "util", "utils"}


@dataclass(frozen=True)
class Module:
    """One file: its name, what it imports (line, name, at import time), what it uses."""

    name: str
    path: Path
    lines: int
    imports: tuple[tuple[int, str, bool], ...]
    attributes: tuple[tuple[int, str], ...]

    @property
    def group(self) -> str:
        parts = self.name.split(".")
        if self.name in ROOF:
            return "roof"
        return parts[1] if len(parts) > 1 and parts[1] in BELOW else "ground"


Tree = Mapping[str, Module]


def read(root: Path) -> Tree:
    """Parse every module of ``root``/vsmgate."""
    files = {}
    for path in sorted((root / "vsmgate").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return {name: _module(name, path, files) for name, path in files.items()}


def _module(name: str, path: Path, files: Mapping[str, Path]) -> Module:
    text = path.read_text()
    imports: list[tuple[int, str, bool]] = []
    attributes: list[tuple[int, str]] = []
    names: dict[str, str] = {}  # what an imported name stands for, to see time.time in t.time

    def visit(node: ast.AST, at_import: bool) -> None:
        match node:
            case ast.Import():
                for alias in node.names:
                    imports.append((node.lineno, alias.name, at_import))
                    names[alias.asname or alias.name] = alias.name
            case ast.ImportFrom():
                package = name if path.stem == "__init__" else name.rpartition(".")[0]
                source = resolve_name("." * node.level + (node.module or ""), package)
                for alias in node.names:
                    target = f"{source}.{alias.name}"
                    names[alias.asname or alias.name] = target
                    ours = target.startswith("vsmgate.") and target not in files
                    imports.append((node.lineno, source if ours else target, at_import))
            case ast.Attribute():
                attributes.append((node.lineno, ast.unparse(node)))
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                at_import = False
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                at_import = False
        for child in ast.iter_child_nodes(node):
            visit(child, at_import)

    visit(ast.parse(text, str(path)), True)
    used = [(line, target) for line, target, _ in imports]
    for line, dotted in attributes:
        head, _, rest = dotted.partition(".")
        used.append((line, f"{names.get(head, head)}.{rest}"))
    return Module(name, path, text.count("\n"), tuple(imports), tuple(used))


def within(name: str, wholes: set[str]) -> bool:
    """Whether ``name`` is one of ``wholes``, or inside one."""
    return any(name == whole or name.startswith(f"{whole}.") for whole in wholes)


Rule = Callable[[Tree], Iterator[tuple[Module, int, str]]]


def arrows_point_down(tree: Tree) -> Iterator[tuple[Module, int, str]]:
    for module in tree.values():
        for line, target, _ in module.imports:
            if not target.startswith("vsmgate."):
                continue
            other = tree[target].group if target in tree else "ground"
            if target in tree and other not in {module.group, *BELOW[module.group]}:
                yield module, line, f"{module.group} may not import {target} ({other})"


def ground_is_pure(tree: Tree) -> Iterator[tuple[Module, int, str]]:
    for module in tree.values():
        if module.group != "ground":
            continue
        for line, target, _ in module.imports:
            standard = target.split(".")[0] in sys.stdlib_module_names
            if within(target, IMPURE):
                yield module, line, f"ground may not import {target}: it does I/O"
            elif not standard and not within(target, {"vsmgate", *GROUND_LIBRARIES}):
                yield module, line, f"ground may not import {target}"


def io_libraries_have_owners(tree: Tree) -> Iterator[tuple[Module, int, str]]:
    hands: dict[str, str] = {}
    for module in tree.values():
        for line, target, _ in module.imports:
            for library in OWNERS:
                if not within(target, {library}):
                    continue
                if not within(module.name, OWNERS[library]):
                    yield module, line, f"{library} is for {', '.join(sorted(OWNERS[library]))}"
                elif module.group == "hands" and hands.setdefault(library, module.name) != (
                    module.name
                ):
                    yield module, line, f"{library} has a hand already: {hands[library]}"


def reactors_are_handed_in(tree: Tree) -> Iterator[tuple[Module, int, str]]:
    for module in tree.values():
        for line, target, at_import in module.imports:
            if not within(target, {"twisted.internet.reactor"}):
                continue
            if at_import:
                yield module, line, "the reactor may not be imported at module level"
            elif not within(module.name, EDGES):
                yield module, line, "only the roof may take the global reactor"


def clocks_are_handed_in(tree: Tree) -> Iterator[tuple[Module, int, str]]:
    for module in tree.values():
        for line, used in module.attributes:
            if used in CLOCKS and not within(module.name, EDGES):
                yield module, line, f"{used}: clocks are handed in"


def there_is_one_event_loop(tree: Tree) -> Iterator[tuple[Module, int, str]]:
    for module in tree.values():
        for line, target, _ in module.imports:
            if within(target, {"asyncio", "twisted.internet.asyncioreactor"}):
                yield module, line, f"{target}: the event loop is Twisted's"


def imports_have_no_cycles(tree: Tree) -> Iterator[tuple[Module, int, str]]:
    done: set[str] = set()

    def walk(name: str, trail: tuple[str, ...]) -> Iterator[tuple[Module, int, str]]:
        for line, target, at_import in tree[name].imports:
            if not at_import or target not in tree or target in done or target == name:
                continue
            if target in trail:
                ring = " -> ".join((*trail[trail.index(target) :], target))
                yield tree[name], line, f"import cycle: {ring}"
            else:
                yield from walk(target, (*trail, target))
        done.add(name)

    for name in tree:
        if name not in done:
            yield from walk(name, (name,))


def modules_are_small(tree: Tree) -> Iterator[tuple[Module, int, str]]:
    for module in tree.values():
        ceiling = WORD_LISTS.get(module.name, CEILING)
        if module.lines > ceiling:
            yield module, module.lines, f"{module.lines} lines; the ceiling is {ceiling}"


def names_say_something(tree: Tree) -> Iterator[tuple[Module, int, str]]:
    for module in tree.values():
        if VAGUE & set(module.name.rpartition(".")[2].split("_")):
            yield module, 1, "name it after what it does"


RULES: tuple[Rule, ...] = (
    arrows_point_down,
    ground_is_pure,
    io_libraries_have_owners,
    reactors_are_handed_in,
    clocks_are_handed_in,
    there_is_one_event_loop,
    imports_have_no_cycles,
    modules_are_small,
    names_say_something,
)


@pytest.fixture(scope="module")
def tree() -> Tree:
    return read(ROOT)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule(rule: Rule, tree: Tree) -> None:
    assert len(tree) > 20, "the package was not found"
    broken = [f"{m.path.relative_to(ROOT)}:{line}: {why}" for m, line, why in rule(tree)]
    assert not broken, "\n".join(broken)


def test_pyproject_lists_every_package() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {p.parent.relative_to(ROOT) for p in (ROOT / "vsmgate").rglob("__init__.py")}
    packages = {".".join(folder.parts) for folder in folders}
    assert set(settings["packages"]) == packages | set(settings["package-dir"])
    assert all((ROOT / folder).is_dir() for folder in settings["package-dir"].values())


@pytest.mark.parametrize(
    ("folder", "extras"),
    [
        ("vsmgate", ["demo", "testing", "viser", "trame", "ecs", "simulators"]),
        ("tests", ["demo", "testing", "test"]),
        ("plugins", []),
    ],
)
def test_every_library_is_declared(folder: str, extras: list[str]) -> None:
    """A library that is only there because another needs it may be gone tomorrow."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(item for extra in extras for item in optional[extra])]
    declared = {_plain(re.split(r"[\[<>=~!;]", item)[0]) for item in wanted}
    distributions = packages_distributions()
    ours = {*sys.stdlib_module_names, "vsmgate", "tests", "__future__"}
    if folder == "tests":
        # The measurements, and the pages' examples: in the checkout, and never installed.
        ours |= {"bench", *(path.stem for path in (ROOT / "docs" / "examples").glob("*.py"))}
    undeclared = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for line, target, _ in _module(name, path, {}).imports:
            package = target.split(".")[0]
            homes = {_plain(home) for home in distributions.get(package, [package])}
            if package not in ours and not homes & declared:
                undeclared.append(f"{path.relative_to(ROOT)}:{line}: {package} is not declared")
    assert not undeclared, "\n".join(undeclared)


def _plain(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution.strip()).lower()


@pytest.mark.parametrize(
    ("rule", "file", "source", "line"),
    [
        (arrows_point_down, "model.py", "from vsmgate.hands import db", 1),
        (arrows_point_down, "model.py", "def f():\n    import vsmgate.jobs.book", 2),
        (arrows_point_down, "hands/x.py", "import vsmgate.jobs.book", 1),
        (arrows_point_down, "jobs/x.py", "from vsmgate.stores.sql import Store", 1),
        (arrows_point_down, "stores/x.py", "from vsmgate.jobs import book", 1),
        (arrows_point_down, "auth/x.py", "from vsmgate.stores import sql", 1),
        (arrows_point_down, "auth/x.py", "from ..stores import sql", 1),
        (arrows_point_down, "auth/__init__.py", "from ..stores.sql import Store", 1),
        (arrows_point_down, "demo/x.py", "import vsmgate.errors", 1),
        (arrows_point_down, "tap.py", "import vsmgate.testing.fakes", 1),
        (ground_is_pure, "frames.py", "\nimport socket", 2),
        (ground_is_pure, "frames.py", "from twisted.internet.defer import Deferred", 1),
        (io_libraries_have_owners, "jobs/x.py", "from sqlalchemy import select", 1),
        (io_libraries_have_owners, "hands/x.py", "import sqlalchemy", 1),
        (io_libraries_have_owners, "relay/x.py", "from autobahn.twisted import websocket", 1),
        (io_libraries_have_owners, "api/x.py", "from twisted.web import client", 1),
        (reactors_are_handed_in, "tap.py", "from twisted.internet import reactor", 1),
        (
            reactors_are_handed_in,
            "jobs/x.py",
            "def f():\n  from twisted.internet import reactor",
            2,
        ),
        (clocks_are_handed_in, "jobs/x.py", "import time\nnow = time.time()", 2),
        (clocks_are_handed_in, "jobs/x.py", "import time as t\ndef f():\n  t.sleep(1)", 3),
        (clocks_are_handed_in, "jobs/x.py", "from time import monotonic", 1),
        (clocks_are_handed_in, "x.py", "from datetime import datetime as d\nd.now()", 2),
        (there_is_one_event_loop, "demo/x.py", "def f():\n  import asyncio.subprocess", 2),
        (imports_have_no_cycles, "errors.py", "import vsmgate.errors_too", 1),
        (modules_are_small, "x.py", "\n" * 301, 301),
        (names_say_something, "relay/frame_utils.py", "", 1),
    ],
)
def test_each_rule_finds_what_it_forbids(
    tmp_path: Path, rule: Rule, file: str, source: str, line: int
) -> None:
    good = {
        "__init__.py": "",
        "errors.py": "",
        "errors_too.py": "import vsmgate.errors",
        "hands/db.py": "import sqlalchemy",
        "jobs/book.py": "from vsmgate import errors\nfrom vsmgate.hands import db",
        "stores/sql.py": "from vsmgate.hands.db import x\nfrom sqlalchemy import select",
        "testing/fakes.py": "import vsmgate.jobs.book, vsmgate.stores.sql",
        "tap.py": "import time\nimport vsmgate.jobs.book\nnow = time.time\n"
        "def f():\n    from twisted.internet import reactor\n    return reactor",
    }
    for name, text in {**good, file: source}.items():
        path = tmp_path / "vsmgate" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = [(m.path.relative_to(tmp_path / "vsmgate"), at) for m, at, _ in rule(read(tmp_path))]
    assert (Path(file), line) in found or (rule is imports_have_no_cycles and found)
    (tmp_path / "vsmgate" / file).write_text(good.get(file, ""))
    if rule is not names_say_something:
        assert not list(rule(read(tmp_path)))
