"""The strictness that every test is under does catch what it is for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

ROOT = Path(__file__).parent.parent

CASES = """
    import gc

    import pytest_twisted
    from twisted.internet import defer, task
    from twisted.logger import Logger
    from twisted.python.failure import Failure


    def test_quiet():
        defer.succeed(None)


    def test_logged_failure():
        Logger().failure("not good", Failure(KeyError("logged")))


    def test_dropped_deferred():
        defer.fail(KeyError("dropped"))


    def test_dropped_in_a_cycle():
        deferred = defer.fail(KeyError("circle"))
        deferred.itself = deferred


    @pytest_twisted.ensureDeferred
    async def test_dropped_by_a_coroutine():
        async def fails():
            raise KeyError("coroutine")

        defer.Deferred.fromCoroutine(fails())


    def test_never_awaited():
        async def forgotten():
            pass

        forgotten()
        gc.collect()


    def test_forgiven(flush_logged):
        defer.fail(KeyError("expected"))
        assert [f.type for f in flush_logged(KeyError)] == [KeyError]


    def test_forgives_only_what_is_named(flush_logged):
        defer.fail(KeyError("expected"))
        defer.fail(ValueError("another"))
        assert len(flush_logged(KeyError)) == 1


    def test_needs(require):
        require(True, "a thing that is there")
        require(None, "slurmctld")
"""


def outcomes(folder: Path, ci: str) -> tuple[set[str], str]:
    """Run the cases; return the names of those that failed, and the output."""
    (folder / "conftest.py").write_bytes((ROOT / "tests/conftest.py").read_bytes())
    (folder / "test_cases.py").write_text(dedent(CASES))
    settings = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *settings, "-p", "no:cacheprovider", str(folder)],
        cwd=folder,
        env={**os.environ, "CI": ci},
        capture_output=True,
        text=True,
        timeout=120,
    )
    summary = [line.split() for line in done.stdout.splitlines()]
    bad = {w[1].rpartition("::test_")[2] for w in summary if w and w[0] in ("FAILED", "ERROR")}
    return bad, done.stdout


STRICT = {
    "logged_failure",
    "dropped_deferred",
    "dropped_in_a_cycle",
    "dropped_by_a_coroutine",
    "never_awaited",
    "forgives_only_what_is_named",
}


@pytest.mark.parametrize(("ci", "bad"), [("", STRICT), ("true", STRICT | {"needs"})])
def test_strictness(tmp_path: Path, ci: str, bad: set[str]) -> None:
    failed, output = outcomes(tmp_path, ci)
    assert failed == bad, output
    assert "slurmctld is missing" in output
    assert ("1 skipped" in output) == (not ci)
