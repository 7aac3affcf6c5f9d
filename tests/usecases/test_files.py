"""Use cases out of TOML files."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
import pytest_twisted
from twisted.internet.testing import MemoryReactorClock
from twisted.internet.threads import deferToThread
from websockets.sync.client import connect
from zope.interface.verify import verifyObject

from vsmgate import settings
from vsmgate.errors import ConfigError
from vsmgate.interfaces import Context, IUsecaseSource, IUsecaseSourceFactory
from vsmgate.launchers.local import LocalLauncherFactory
from vsmgate.model import Fragments, Limits, Pings, Service, Usecase
from vsmgate.usecases.files import TomlSource, TomlSourceFactory, TomlSourceSettings

SMALLEST = """
launcher = "local"
[services.viewer]
[launch.local]
"""


def refused(folder: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        TomlSource(folder).usecases()
    return str(caught.value)


def context(config_dir: Path) -> Context:
    return Context("files", MemoryReactorClock(), lambda: 0.0, config_dir / "state", config_dir)


def test_interfaces(tmp_path: Path) -> None:
    verifyObject(IUsecaseSource, TomlSource(tmp_path))
    verifyObject(IUsecaseSourceFactory, TomlSourceFactory())


def test_a_small_file(tmp_path: Path) -> None:
    (tmp_path / "my-viewer.toml").write_text(SMALLEST)
    source = TomlSource(tmp_path)
    (usecase,) = source.usecases()
    assert (usecase.name, usecase.launcher, list(usecase.services)) == (
        "my-viewer", "local",
        ["viewer"],
    )  # fmt: skip
    assert source.origin("my-viewer") == f"{tmp_path}/my-viewer.toml"


def test_a_full_file(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(
        """
        name = "Full.1"
        title = "Full"
        launcher = "big"
        tokenless = true
        [services.renderer]
        port = 5000
        path = "/ws?x=1"
        health = { http = "/healthz", timeout = 1 }
        pings = "answer"
        fragments = "coalesce"
        max_clients = 3
        [limits]
        lifetime = 60
        [parameters]
        type = "object"
        properties.n.type = "integer"
        [launch.slurm]
        partition = "gpu"
        [launch.local.services.renderer]
        command = ["a", ["b", "{parameters.n}"]]
        """
    )
    (usecase,) = TomlSource(tmp_path).usecases()
    service = usecase.services["renderer"]
    assert usecase.name == "Full.1"
    assert usecase.tokenless
    assert usecase.limits == Limits(lifetime=60.0)
    assert (service.port, service.pings, service.fragments) == (
        5000,
        Pings.ANSWER,
        Fragments.COALESCE,
    )
    assert usecase.launch["local"]["services"]["renderer"]["command"][1] == ["b", "{parameters.n}"]


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(SMALLEST)
    for name in (".#a.toml", "a.toml~", "README.md"):
        (tmp_path / name).write_text("no TOML at all")
    assert [usecase.name for usecase in TomlSource(tmp_path).usecases()] == ["a"]


def test_a_folder_is_read_anew_each_time(tmp_path: Path) -> None:
    source = TomlSource(tmp_path)
    for name in ("a", "b"):
        (tmp_path / f"{name}.toml").write_text(SMALLEST)
        assert source.usecases()[-1].name == name


def test_every_error_of_every_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("launcher = 3\n[services.Bad]\npings = 'no'\n[launch]\n")
    (tmp_path / "b.toml").write_text("launcher = \n")
    (tmp_path / "c.toml").write_text(SMALLEST)
    (tmp_path / "d.toml").write_text("name = 'c'" + SMALLEST)
    (tmp_path / "bad name.toml").write_text(SMALLEST)
    said = refused(tmp_path)
    for expected in (
        f"{tmp_path}/a.toml: launcher: 3 is not allowed",
        f"{tmp_path}/a.toml: services.Bad: is no good name here",
        f'{tmp_path}/a.toml: services.Bad.pings: "no" is not allowed: expected "pass"',
        f"{tmp_path}/b.toml: line 1, column 12: is not TOML",
        f"{tmp_path}/d.toml: name: 'c' is the name in {tmp_path}/c.toml too",
        f'{tmp_path}/bad name.toml: name: "bad name" is not allowed',
    ):
        assert expected in said
    assert len(said.splitlines()) == 6


@pytest.mark.parametrize(
    ("old", "new", "wrong"),
    [
        ("[services.viewer]", "[services]", "services: a use case needs a service at least"),
        ("[services.viewer]", "[services.viewer]\npath = 'ws'", "services.viewer.path: 'ws' is no"),
        (
            "[services.viewer]",
            "[services.viewer]\npath = '/a b'",
            "services.viewer.path: '/a b' is no path",
        ),
        (
            "[services.viewer]",
            "[services.viewer]\nhealth.http = '/\\u0000'".replace("'", '"'),
            "services.viewer.health.http: ",
        ),
        (
            "[services.viewer]",
            "[services.viewer]\nhealth.kind = 'udp'",
            "services.viewer.health: unknown kind 'udp'",
        ),
        (
            "[launch.local]",
            "[limits]\nlifetime = 9\nmax_lifetime = 8\n[launch.local]",
            "limits.lifetime: 9 is more than",
        ),
        (
            "[launch.local]",
            "[parameters]\ntype = 'objekt'\n[launch.local]",
            "parameters: ",
        ),
        (
            "[launch.local]",
            "[services.x]\nview = 'jsonrpc'\n[launch.local]",
            "services.x.view_methods: goes with view",
        ),
        (
            "[launch.local]",
            "[services.x]\nview_methods = ['get']\n[launch.local]",
            "services.x.view_methods: goes with view",
        ),
        (
            "[launch.local]",
            "[services.x]\nview = 'receive'\nhttp = true\n[launch.local]",
            "services.x.view: what viewers ask of pages",
        ),
        (
            "[services.viewer]",
            "tokenless = true\n[services.viewer]\nview = 'receive'",
            "services.viewer.view: whoever knows",
        ),
    ],
)
def test_values_that_do_not_go_together(tmp_path: Path, old: str, new: str, wrong: str) -> None:
    (tmp_path / "a.toml").write_text(SMALLEST.replace(old, new))
    assert f"a.toml: {wrong}" in refused(tmp_path)


def test_launchers_in_order_of_preference(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(SMALLEST.replace('"local"', '["cluster", "local"]'))
    (usecase,) = TomlSource(tmp_path).usecases()
    assert (usecase.launcher, usecase.choices) == ("cluster", ("cluster", "local"))


def test_a_folder_may_run_elsewhere_than_its_files_say(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(SMALLEST)
    (tmp_path / "b.toml").write_text(SMALLEST.replace('launcher = "local"', ""))
    table = {"folder": ".", "launcher": ["cluster", "local"]}
    read = settings.read(TomlSourceSettings, table, source="x.toml")
    source = TomlSourceFactory().make(read, context(tmp_path))
    assert {u.choices for u in source.usecases()} == {("cluster", "local")}
    one = settings.read(TomlSourceSettings, {"folder": ".", "launcher": "pods"}, source="x.toml")
    assert {u.choices for u in TomlSourceFactory().make(one, context(tmp_path)).usecases()} == {
        ("pods",)
    }


@pytest.mark.parametrize(
    ("launcher", "wrong"),
    [
        ("[]", "launcher: [] is not allowed"),
        ("['a', 3]", 'launcher: ["a", 3] is not allowed'),
        ("['a', 'b', 'a']", "launcher: a, b, a: each launcher is to be named once"),
        ("'a'\nfallbacks = ['b']", "fallbacks: unknown key; write launcher = [...]"),
    ],
)
def test_launchers_that_cannot_be(tmp_path: Path, launcher: str, wrong: str) -> None:
    (tmp_path / "a.toml").write_text(
        SMALLEST.replace("'local'", launcher).replace('"local"', launcher)
    )
    assert f"a.toml: {wrong}" in refused(tmp_path)


def test_no_folder_and_no_file(tmp_path: Path) -> None:
    assert "none: use cases cannot be read from this folder: no such" in refused(tmp_path / "none")
    assert "has no use case" in refused(tmp_path)


def test_the_folder_starts_at_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.toml").write_text(SMALLEST)
    source = TomlSourceFactory().make(TomlSourceSettings("mine"), context(tmp_path))
    assert [usecase.name for usecase in source.usecases()] == ["a"]


@pytest.fixture
def shipped(tmp_path: Path) -> dict[str, Usecase]:
    source = TomlSourceFactory().make(TomlSourceSettings(), context(tmp_path))
    return {usecase.name: usecase for usecase in source.usecases()}


def test_the_shipped_use_cases(shipped: dict[str, Usecase]) -> None:
    assert set(shipped) >= {"demo", "brayns"}
    for usecase in shipped.values():
        assert usecase.title
        assert usecase.description


@pytest.mark.parametrize("name", ["demo", "brayns"])
def test_a_probe_finds_room_beside_the_clients(shipped: dict[str, Usecase], name: str) -> None:
    """A health probe takes one of Brayns' places, so the relay must let fewer in."""
    command = shipped[name].launch["local"]["services"]["renderer"]["command"]
    served = int(command[command.index("--max-clients") + 1])
    let_in = shipped[name].services["renderer"].max_clients
    assert let_in is not None
    assert let_in < served


DOCS = Path(__file__).parents[2] / "docs" / "usecases.md"


def documented(name: str) -> str:
    """Return the code block of docs/usecases.md that is marked as the file ``name``."""
    block = DOCS.read_text().partition(f"<!-- {name} -->\n```")[2]
    return block.partition("\n")[2].partition("```")[0]


def test_the_documented_example_is_good(tmp_path: Path) -> None:
    (tmp_path / "echo.toml").write_text(documented("echo.toml"))
    (usecase,) = TomlSource(tmp_path).usecases()
    factory = LocalLauncherFactory()
    plan = settings.read(factory.plan, usecase.launch["local"], source="echo.toml")
    assert factory.check(usecase, plan) == []


@pytest_twisted.ensureDeferred
async def test_the_documented_program_greets(tmp_path: Path) -> None:
    (tmp_path / "echo.py").write_text(documented("echo.py"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = subprocess.Popen(
        [sys.executable, str(tmp_path / "echo.py"), "127.0.0.1", str(port), "hi"]
    )
    try:
        assert await deferToThread(ask, port, "there") == "hi there"
    finally:
        program.kill()
        program.wait()


def ask(port: int, text: str) -> str:
    """Return what the program at ``port`` answers, once it listens."""
    deadline = time.monotonic() + 30
    while True:
        try:
            with connect(f"ws://127.0.0.1:{port}/") as client:
                client.send(text)
                return str(client.recv(timeout=10))
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise


@pytest.mark.parametrize("kind", [Usecase, Service])
def test_every_key_is_documented(kind: type[Usecase] | type[Service]) -> None:
    page = DOCS.read_text()
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    for field in msgspec.structs.fields(kind):
        if field.name == "fallbacks":
            continue  # in a file that is the rest of `launcher`
        assert any(f"`{field.name}`" in row for row in rows), f"{DOCS} lacks {field.name}"
