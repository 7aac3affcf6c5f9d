"""The commands of a checkout: their bootstrap against a scripted Python, and bin/run itself."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

#: A python3 that says it is 3.11, makes "environments" of itself, and notes its arguments.
PYTHON = """#!/bin/sh
echo "$*" >>"{notes}"
case "$*" in
*version_info*) exit {old} ;;
--version) echo "Python 3.11.0" ;;
*"-m venv"*)
    [ {venv} = yes ] || {{ echo "ensurepip is not available" >&2; exit 1; }}
    mkdir -p "$3/bin"
    cp "$0" "$3/bin/python" ;;
*"-c import pip"*) exit 0 ;;
*"-m pip install"*)
    [ ! -e "{checkout}/offline" ] || {{ echo "no route to the index" >&2; exit 1; }}
    sleep {slow} ;;
*) echo "ran: $*" ;;
esac
"""

TOOLS = ("sh", "dirname", "cat", "cksum", "mkdir", "cp", "rm", "tr", "flock", "sleep", "bash")


class Checkout:
    """A copy of the commands, and a PATH on which only the scripted Python is."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "a checkout"
        self.path = folder / "path"
        self.notes = folder / "notes"
        self.notes.touch()
        self.path.mkdir()
        for name in ("bin", ".ci"):
            shutil.copytree(ROOT / name, self.root / name)
        shutil.copy(ROOT / "pyproject.toml", self.root)
        for tool in TOOLS:
            (self.path / tool).symlink_to(shutil.which(tool) or f"/usr/bin/{tool}")

    def python(
        self, name: str = "python3", *, old: bool = False, venv: bool = True, slow: int = 0
    ) -> None:
        file = self.path / name
        file.write_text(
            PYTHON.format(
                notes=self.notes,
                checkout=self.root,
                old=int(old),
                venv="yes" if venv else "no",
                slow=slow,
            )
        )
        file.chmod(0o755)

    def start(self, *command: str, **environ: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.root / command[0], *command[1:]],
            cwd=self.path,
            env={"PATH": str(self.path), **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def call(self, *command: str, **environ: str) -> tuple[int, str, str]:
        process = self.start(*command, **environ)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def installs(self) -> list[str]:
        """Return what was installed so far, e.g. ``.[demo,test]``."""
        lines = self.notes.read_text().splitlines()
        return [line.split()[-1] for line in lines if "pip install" in line]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_venv_is_made_once_and_says_so(checkout: Checkout) -> None:
    checkout.python()
    code, out, err = checkout.call("bin/_venv", "demo", "test")
    assert (code, out) == (0, "")
    assert "makes" in err
    assert "installs vsmgate with demo,test" in err
    assert checkout.call("bin/_venv", "demo", "test") == (0, "", "")
    assert checkout.call("bin/_venv", "demo") == (0, "", "")
    assert checkout.call("bin/_venv") == (0, "", "")
    assert checkout.installs() == [".[demo,test]"]


def test_venv_installs_what_is_new(checkout: Checkout) -> None:
    checkout.python()
    checkout.call("bin/_venv")
    checkout.call("bin/_venv", "demo")
    with (checkout.root / "pyproject.toml").open("a") as file:
        file.write("# another dependency\n")
    checkout.call("bin/_venv", "demo")
    assert checkout.installs() == [".", ".[demo]", ".[demo]"]


def test_venv_follows_a_moved_checkout(checkout: Checkout) -> None:
    checkout.python()
    checkout.call("bin/_venv")
    checkout.root = checkout.root.rename(checkout.root.with_name("moved"))
    checkout.call("bin/_venv")
    assert checkout.installs() == [".", "."]


def test_venv_is_made_again_when_its_interpreter_is_gone(checkout: Checkout) -> None:
    checkout.python()
    checkout.call("bin/_venv", "demo", "test")
    (checkout.root / ".venv/bin/python").unlink()
    checkout.call("bin/_venv", "demo")
    checkout.call("bin/_venv", "test")
    assert checkout.installs() == [".[demo,test]", ".[demo]", ".[test]"]


def test_venv_calls_at_the_same_time_install_once(checkout: Checkout) -> None:
    checkout.python(slow=1)
    calls = [checkout.start("bin/_venv", "demo") for _ in range(3)]
    said = [process.communicate(timeout=60)[1] for process in calls]
    assert [process.returncode for process in calls] == [0, 0, 0]
    assert checkout.installs() == [".[demo]"]
    assert sum("waits for another call" in err for err in said) == 2


def test_venv_shows_the_errors_of_pip_and_tries_again(checkout: Checkout) -> None:
    checkout.python()
    (checkout.root / "offline").touch()
    code, _, err = checkout.call("bin/_venv", "demo")
    assert code == 1
    assert "no route to the index" in err
    assert "pip failed" in err
    (checkout.root / "offline").unlink()
    assert checkout.call("bin/_venv", "demo")[0] == 0


@pytest.mark.parametrize("found", ["python3.11", "python3.12", "python3.13"])
def test_venv_passes_over_an_old_python(checkout: Checkout, found: str) -> None:
    checkout.python("python3", old=True)
    checkout.python(found)
    code, _, err = checkout.call("bin/_venv")
    assert code == 0, err
    assert f"with {found}" in err or "Python 3.11" in err


@pytest.mark.parametrize("old", [True, False], ids=["old", "none"])
def test_venv_says_what_python_it_needs(checkout: Checkout, old: bool) -> None:
    if old:
        checkout.python("python3", old=True)
    code, _, err = checkout.call("bin/_venv")
    assert code == 1
    assert "needs Python 3.11 or newer" in err
    assert f"found none (python3: {'Python 3.11.0' if old else 'missing'}, python3.14:" in err
    assert "PYTHON=" in err
    assert checkout.installs() == []


def test_venv_takes_the_python_that_is_named(checkout: Checkout) -> None:
    checkout.python("my own")
    assert checkout.call("bin/_venv", PYTHON=str(checkout.path / "my own"))[0] == 0


def test_venv_says_that_the_venv_module_is_missing(checkout: Checkout) -> None:
    checkout.python(venv=False)
    code, _, err = checkout.call("bin/_venv")
    assert code == 1
    assert "python3-venv" in err
    assert "ensurepip is not available" in err


@pytest.mark.parametrize("place", ["/proc", "file"])
def test_venv_says_that_it_cannot_write(checkout: Checkout, place: str) -> None:
    """Not even root can write into these."""
    checkout.python()
    (checkout.root / "file").touch()
    (checkout.root / ".venv").symlink_to(place)
    code, _, err = checkout.call("bin/_venv", "demo")
    assert code == 1
    assert f"cannot write {checkout.root}/.venv" in err
    assert "bin/_venv demo" in err
    assert checkout.installs() == []


def test_run_hands_its_options_to_twistd(checkout: Checkout) -> None:
    checkout.python()
    code, out, _ = checkout.call("bin/run", "--state-dir", "a b", "--role", "master")
    assert code == 0
    assert out.rstrip().endswith(
        "bin/_twistd --nodaemon --pidfile= vsmgate --state-dir a b --role master"
    )


def test_simulate_installs_no_tools_of_tests(checkout: Checkout) -> None:
    checkout.python()
    code, out, _ = checkout.call("bin/simulate", "ecs", "--help")
    assert (code, out) == (0, "ran: -m vsmgate.simulators ecs --help\n")
    assert checkout.installs() == [".[demo,ecs,kubernetes,simulators]"]


@pytest.mark.parametrize(("linted", "tested", "code"), [(0, 0, 0), (1, 0, 1), (0, 3, 3), (1, 3, 3)])
def test_test_lints_then_runs_pytest(
    checkout: Checkout, linted: int, tested: int, code: int
) -> None:
    checkout.python()
    assert checkout.call("bin/_venv", "demo", "test")[0] == 0
    for name, status in (("ruff", 0), ("mypy", linted), ("python", tested)):
        program = checkout.root / ".venv/bin" / name
        program.write_text(f'#!/bin/sh\necho "{name} $*"; exit {status}\n')
        program.chmod(0o755)
    all_tests = "python -m pytest --numprocesses=2 --dist=loadfile"
    lines = "ruff check", "ruff format --check", "mypy ", all_tests
    assert checkout.call("bin/test") == (code, "".join(f"{line}\n" for line in lines), "")
    lines = *lines[:3], "python -m pytest --conformance"
    assert checkout.call("bin/test", "--conformance")[1] == "".join(f"{line}\n" for line in lines)
    assert checkout.call("bin/test", "-k", "it") == (tested, "python -m pytest -k it\n", "")


@pytest.mark.parametrize("command", ["bash", "direct"])
def test_ci_runs_everything_without_a_terminal(checkout: Checkout, command: str) -> None:
    (checkout.root / "bin/test").write_text('#!/bin/sh\ncat; echo "CI=$CI args=$#"; exit 4\n')
    argv = [".ci/run"]
    if command == "bash":
        (checkout.root / "bash").symlink_to(checkout.path / "bash")
        argv = ["bash", str(checkout.root / ".ci/run")]
    assert checkout.call(*argv) == (4, "CI=true args=0\n", "")
