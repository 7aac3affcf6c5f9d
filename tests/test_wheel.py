"""The wheel, in an empty environment: it is complete, and does what bin/run does."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.running import gateway

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.wheel

#: Nothing of the checkout, or of the environment that runs the tests, may help.
CLEAN = {
    name: value
    for name, value in os.environ.items()
    if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
}


def run(*argv: str | Path, cwd: Path) -> str:
    done = subprocess.run(argv, cwd=cwd, env=CLEAN, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{argv}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel as a release does: out of the source distribution."""
    folder = tmp_path_factory.mktemp("dist")
    # Building writes beside the sources, so it gets its own: nothing appears in the checkout.
    sources = tmp_path_factory.mktemp("sources") / "vsmgate"
    not_sources = shutil.ignore_patterns(".*", "*.egg-info", "__pycache__", "var")
    shutil.copytree(ROOT, sources, ignore=not_sources)
    shutil.copytree(ROOT / ".ci", sources / ".ci")
    run(sys.executable, "-m", "build", "--outdir", folder, sources, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def bin_folder(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel, with what it depends on, into an empty environment."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=True)
    run(folder / "bin/python", "-m", "pip", "install", "-q", wheel, cwd=folder)
    return folder / "bin"


def shipped_files() -> set[str]:
    """Return what the wheel must hold, by the checkout's files."""
    places = {"vsmgate": "vsmgate", "conf": "vsmgate/conf", "plugins": "twisted/plugins"}
    return {
        f"{target}/{file.relative_to(ROOT / source)}"
        for source, target in places.items()
        for file in (ROOT / source).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts and file.name != "dropin.cache"
    }


def test_wheel_has_every_file(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == shipped_files()


def test_sdist_has_what_a_checkout_needs(wheel: Path) -> None:
    (archive,) = wheel.parent.glob("*.tar.gz")
    names = run("tar", "tzf", archive, cwd=wheel.parent).splitlines()
    inside = {name.partition("/")[2] for name in names}
    assert {"LICENSE", "README.md", "bin/run", "bin/test", "plugins/vsmgate_service.py"} <= inside
    assert not {name for name in inside if name.endswith((".pyc", "dropin.cache"))}


def test_twistd_lists_the_gateway(bin_folder: Path, tmp_path: Path) -> None:
    told = run(bin_folder / "twistd", "--help", cwd=tmp_path)
    assert re.search(r"^ +vsmgate +A pluggable proxy gateway", told, re.MULTILINE)
    options = run(bin_folder / "twistd", "vsmgate", "--help", cwd=tmp_path)
    for option in ("config", "state-dir", "master-port", "relay-port", "role"):
        assert f"--{option}=" in options


def test_the_command_is_there_and_finds_the_shipped_configuration(
    bin_folder: Path, tmp_path: Path
) -> None:
    where = "from vsmgate import shipped; print(shipped.conf_folder() / 'vsmgate.toml')"
    conf = run(bin_folder / "python", "-c", where, cwd=tmp_path).strip()
    assert Path(conf).is_relative_to(bin_folder.parent)
    run(bin_folder / "vsmgate", "check", conf, cwd=tmp_path)


ECS = 'kind = "ecs"\nregion = "eu-west-1"\ncluster = "c"\nsubnets = ["subnet-1234abcd"]\n'
KUBERNETES = 'kind = "kubernetes"\nkubeconfig = "kubeconfig"\n'


@pytest.mark.parametrize(("extra", "settings"), [("ecs", ECS), ("kubernetes", KUBERNETES)])
def test_check_names_the_extra_that_is_missing(
    bin_folder: Path, tmp_path: Path, extra: str, settings: str
) -> None:
    (tmp_path / "kubeconfig").write_text("clusters: []\n")
    file = tmp_path / "my.toml"
    file.write_text(f"{(ROOT / 'conf/vsmgate.toml').read_text()}\n[launchers.{extra}]\n{settings}")
    done = run_without(extra, bin_folder / "vsmgate", "check", file)
    assert f": {bin_folder}/python -m pip install 'vsmgate[{extra}]'" in done[0]
    assert "1 error;" in done[-1]


def test_programs_name_the_extra_that_is_missing(bin_folder: Path) -> None:
    """The last line is what users read as the job's reason."""
    python = bin_folder / "python"
    assert "'vsmgate[demo]'" in run_without("demo", python, "-m", "vsmgate.demo.renderer")[-1]
    asked = run_without("simulators", python, "-m", "vsmgate.simulators", "ecs")
    assert "pip install 'vsmgate[simulators]'" in asked[-1]


def run_without(extra: str, *argv: str | Path) -> list[str]:
    done = subprocess.run(argv, env=CLEAN, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, f"{extra}\n{done.stdout}\n{done.stderr}"
    return (done.stdout + done.stderr).splitlines()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_twistd_does_what_bin_run_does(bin_folder: Path, tmp_path: Path, number: int) -> None:
    options = ["--state-dir", "state", "--master-port", "0", "--relay-port", "0"]
    shipped = bin_folder.parent / "shipped.toml"
    shipped.write_bytes((ROOT / "conf/vsmgate.toml").read_bytes())
    twistd = [bin_folder / "twistd", "-n", "vsmgate", "--config", shipped, *options]
    shapes = []
    for name, argv in (("installed", twistd), ("checkout", [ROOT / "bin/run", *options])):
        folder = tmp_path / name
        folder.mkdir()
        with gateway(argv, folder, CLEAN) as running:
            assert running.get("/healthz")[0] == 200
            assert running.relay.startswith("ws://127.0.0.1:")
            assert (folder / "state/token").stat().st_mode & 0o777 == 0o600
            assert running.stop(number) == 0, running.log
            assert "Traceback" not in running.log
            shapes.append([re.sub(r":\d+", ":PORT", line) for line in running.said])
    assert shapes[0] == shapes[1]
