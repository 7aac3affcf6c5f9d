"""The vsmgate command."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from vsmgate import __version__
from vsmgate.auth.tokens import read_tokens
from vsmgate.cli import main
from vsmgate.model import Secret

ROOT = Path(__file__).parent.parent
PLUGINS = """
[launchers.local]
kind = "local"
[authenticators.tokens]
kind = "static"
generate = true
[usecases.files]
kind = "toml"
folder = "usecases"
"""
USECASE = """
launcher = "local"
[services.viewer]
[launch.local.services.viewer]
command = ["viewer", "--port", "{port}"]
"""

DUMB = """
from twisted.logger import Logger
from vsmgate.errors import EngineUnreachable
from vsmgate.testing.scripted_launcher import ScriptedLauncher, ScriptedLauncherFactory

class Launcher(ScriptedLauncher):
    async def find(self, tags):
        Logger().info("nobody wants to know")
        Logger().warn("the {part} is blown", part="fuse")
        raise EngineUnreachable("It is out of order.")

class Factory(ScriptedLauncherFactory):
    kind = "dumb"
    def make(self, settings, context):
        return Launcher()

dumb = Factory()
"""


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "usecases").mkdir()
    (tmp_path / "usecases" / "demo.toml").write_text(USECASE)
    path = tmp_path / "vsmgate.toml"
    path.write_text(f"state_dir = 'state'\n{PLUGINS}")
    return path


def test_version() -> None:
    assert run("--version").output == f"vsmgate {__version__}\n"


def test_check_sums_up_and_makes_nothing(file: Path) -> None:
    before = sorted(file.parent.rglob("*"))
    result = run("check", file)
    assert result.exit_code == 0, result.output
    assert result.output.splitlines() == [
        f"{file} is good",
        "  master          http://127.0.0.1:4444",
        "  relay           ws://127.0.0.1:8888",
        f"  state           {file.parent}/state",
        "  store           sql",
        "  launchers       local (local)",
        "  authenticators  tokens (static)",
        "  use cases       demo",
    ]
    assert sorted(file.parent.rglob("*")) == before


def test_check_tells_the_errors_of_the_file(file: Path) -> None:
    file.write_text(f"{PLUGINS}\n[master]\nprot = 1\n[relay]\nport = -1\n")
    result = run("check", file)
    assert result.exit_code == 1
    assert f"{file}: master.prot: unknown key; did you mean 'port'?" in result.output
    assert f"{file}: relay.port: -1 is not allowed" in result.output
    assert "2 errors" in result.output


def test_check_tells_the_errors_of_plugins_and_use_cases(file: Path) -> None:
    text = PLUGINS.replace('kind = "local"', 'kind = "local"\ngrase = 1').replace(
        "static", "statik"
    )
    file.write_text(text)
    (file.parent / "usecases" / "more.toml").write_text(USECASE.replace("[services.viewer]", ""))
    result = run("check", file)
    assert result.exit_code == 1
    assert f"{file}: launchers.local.grase: unknown key; did you mean 'grace'?" in result.output
    assert f"{file}: authenticators.tokens.kind: unknown authenticator 'statik'" in result.output
    assert f"{file.parent}/usecases/more.toml: services: is required" in result.output


def test_check_reads_plans(file: Path) -> None:
    wrong = USECASE.replace("{port}", "{prot}")
    (file.parent / "usecases" / "demo.toml").write_text(wrong)
    result = run("check", file)
    assert result.exit_code == 1
    assert f"{file.parent}/usecases/demo.toml: launch.local" in result.output
    assert "prot" in result.output


def test_check_reads_the_tokens_file(file: Path) -> None:
    state = file.parent / "state"
    state.mkdir()
    (state / "tokens.toml").write_text("[[token]]\n")
    result = run("check", file)
    assert result.exit_code == 1
    assert f"{state}/tokens.toml: token[0].sha256: is required" in result.output
    elsewhere = run("check", file, "--state-dir", file.parent / "other")
    assert elsewhere.exit_code == 0, elsewhere.output


def test_check_of_the_embedded_file_as_an_operator_runs_it(tmp_path: Path) -> None:
    """In a process of its own, without what the tests did to the import path."""
    command = [sys.executable, "-c", "from vsmgate.cli import main; main()"]
    result = subprocess.run(
        [*command, "check", str(ROOT / "conf" / "vsmgate.toml")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "brayns, demo" in result.stdout
    assert list(tmp_path.iterdir()) == []


def check_engines(file: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Run the check in a process of its own, whose reactor it may have."""
    command = [sys.executable, "-c", "from vsmgate.cli import main; main()", "check", str(file)]
    path = os.pathsep.join([str(ROOT), str(ROOT / "plugins")])
    return subprocess.run(
        [*command, "--engines", *more],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_check_tries_the_engines(file: Path) -> None:
    before = sorted(file.parent.rglob("*"))
    result = check_engines(file)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-2:] == ["  engines", "    local         ok"]
    assert sorted(file.parent.rglob("*")) == before


def test_check_tells_which_engine_fails(file: Path) -> None:
    elsewhere = '[launchers.elsewhere]\nkind = "local"\nbind = "192.0.2.1"\n'
    file.write_text(file.read_text() + elsewhere)
    result = check_engines(file)
    assert result.returncode == 1
    lines = result.stdout.splitlines()
    assert "    local         ok" in lines
    assert any("elsewhere" in line and "192.0.2.1" in line for line in lines)
    assert "not every engine would take jobs" in result.stderr
    assert "Traceback" not in result.stderr


def test_check_shows_what_the_log_would_say_of_an_engine(file: Path) -> None:
    """As `EngineError` keeps from users what only the log tells."""
    (file.parent / "plugins").mkdir()
    (file.parent / "plugins" / "vsmgate_dumb.py").write_text(DUMB)
    file.write_text(
        f'plugin_folders = ["plugins"]\n{file.read_text()}\n[launchers.x]\nkind = "dumb"'
    )
    result = check_engines(file)
    assert result.returncode == 1
    assert "    x             It is out of order." in result.stdout.splitlines()
    assert "  log: the fuse is blown" in result.stderr.splitlines()
    assert "nobody wants to know" not in result.stdout + result.stderr


@pytest.mark.parametrize("module", ["vsmgate", "vsmgate.cli"])
def test_the_module_is_the_command(module: str) -> None:
    said = subprocess.check_output(
        [sys.executable, "-m", module, "--version"], cwd=ROOT, text=True, timeout=60
    )
    assert said == f"vsmgate {__version__}\n"


def test_token_is_printed_and_only_its_digest_kept(tmp_path: Path) -> None:
    file = tmp_path / "tokens.toml"
    result = run(
        "token", "--subject", "ada", "--groups", "a,b", "--groups", "c",
        "--expires", "2999-01-01T00:00:00+00:00", "--name", "laptop", "--file", file,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    value = result.stdout.strip()
    assert value not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    (entry,) = read_tokens(file).values()
    assert entry.sha256 == Secret(value).digest()
    assert (entry.subject, entry.groups, entry.name) == ("ada", ("a", "b", "c"), "laptop")
    assert entry.expires == datetime(2999, 1, 1, tzinfo=UTC)
    assert run("token", "--subject", "bob", "--file", file).exit_code == 0
    assert len(read_tokens(file)) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--expires", "2999-01-01"], ""),
        (["--expires", "soon"], "'soon' is no time such as 2027-01-01"),
        (["--expires", "2001-01-01"], "2001-01-01 is over"),
        (["--file", "/nowhere/tokens.toml"], "cannot be written: no such file or directory"),
        (["--subject", ""], "subject"),
    ],
)
def test_token_refuses(tmp_path: Path, arguments: list[str], said: str) -> None:
    file = tmp_path / "tokens.toml"
    result = run("token", "--subject", "ada", "--file", file, *arguments)
    assert (result.exit_code != 0) is bool(said)
    assert said in result.output
    assert file.exists() is not bool(said)


def test_check_knows_what_rules_are_about(file: Path) -> None:
    rules = "[access.usecases.dmeo]\nallow = []\n[jobs.max_per_usecase]\ndemo2 = 3\n"
    file.write_text(file.read_text() + rules)
    result = run("check", file)
    assert result.exit_code == 1
    assert f"{file}: access.usecases.dmeo: no use case is named 'dmeo'" in result.output
    assert f"{file}: jobs.max_per_usecase.demo2: no use case is named 'demo2'" in result.output


def test_tokens_are_listed_and_revoked(tmp_path: Path) -> None:
    file = tmp_path / "tokens.toml"
    make = ("token", "make", "--file", file)
    first = run(*make, "--subject", "ada", "--groups", "vis", "--name", "laptop").stdout.strip()
    second = run(*make, "--subject", "bob\u202e", "--expires", "2999-01-01").stdout.strip()
    assert len(read_tokens(file)) == 2

    listed = run("token", "list", "--file", file).output
    assert first not in listed
    assert second not in listed
    head, ada, bob = listed.splitlines()
    assert head.split() == ["ID", "SUBJECT", "GROUPS", "CREATED", "EXPIRES", "NAME"]
    assert ada.split()[:3] == [Secret(first).digest()[:12], "ada", "vis"]
    assert ada.endswith("-  laptop") or "laptop" in ada
    assert "bob?" in bob
    assert "2998-12-31" in bob or "2999-01-01" in bob

    gone = run("token", "revoke", "laptop", "--file", file)
    assert (gone.exit_code, gone.output) == (0, f"revoked {Secret(first).digest()[:12]} of ada\n")
    assert run("token", "revoke", "laptop", "--file", file).exit_code == 1
    short = Secret(second).digest()[:8]
    assert run("token", "revoke", short[:7], "--file", file).exit_code == 1
    assert run("token", "revoke", short, "--file", file).exit_code == 0
    assert read_tokens(file) == {}


def test_token_without_a_command_shows_what_there_is() -> None:
    result = run("token", "--help")
    assert result.exit_code == 0
    assert all(word in result.output for word in ("make", "list", "revoke"))
    assert run("token", "list", "--file", "/nowhere/tokens.toml").exit_code == 1
