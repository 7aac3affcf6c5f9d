"""What vsmgate stands on: floors below which holes are known, and what an audit says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

#: Below these there are advisories that concern a gateway; docs/security.md names them.
FLOORS = {"twisted": "26.10.0", "autobahn": "26.7.1", "pyjwt": "2.13.0"}

#: Advisories that were looked at and do not concern us: id -> why, and until when that holds.
WAIVED: dict[str, str] = {}


def requirements() -> dict[str, Requirement]:
    return {read.name.lower(): read for read in map(Requirement, PROJECT["dependencies"])}


@pytest.mark.criterion("S-28")
@pytest.mark.parametrize("name", FLOORS)
def test_nothing_older_than_the_last_fix_is_taken(name: str) -> None:
    before = Version(FLOORS[name])
    older = Version(f"{before.major}.{before.minor}.{before.micro}.dev0")
    assert not requirements()[name].specifier.contains(older, prereleases=True)
    assert Version(version(name)) >= before


def test_twisted_brings_no_http2() -> None:
    """Its server has had floods, and nothing here needs it."""
    assert "http2" not in requirements()["twisted"].extras


@pytest.mark.criterion("S-28")
def test_the_audit_finds_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off"],
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    if not done.stdout.startswith("{"):
        pytest.skip("the database of advisories cannot be reached")
    audited = [d for d in json.loads(done.stdout)["dependencies"] if "skip_reason" not in d]
    if not audited:
        pytest.skip("this package index knows no advisories")
    found = {
        f"{dependency['name']} {dependency['version']}: {hole['id']}"
        for dependency in audited
        for hole in dependency["vulns"]
        if hole["id"] not in WAIVED
    }
    assert not found


def test_the_readme_names_every_extra() -> None:
    told = (ROOT / "README.md").read_text().partition("The extras are ")[2].partition(". ")[0]
    extras = PROJECT["optional-dependencies"].keys() - {"test"}
    assert set(re.findall("`([a-z]+)`", told)) == extras
