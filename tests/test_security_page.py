"""The acceptance criteria S-1 to S-31: none is forgotten, and docs/security.md tells the truth.

A test that shows one says so by ``@pytest.mark.criterion("S-7")``; the page tells in which bounds.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from vsmgate.config import Config
from vsmgate.model import Service, Usecase

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "security.md").read_text()


def shown() -> Iterator[str]:
    """Yield the criteria that tests carry."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.criterion":
                yield from (ast.literal_eval(name) for name in node.args)


def listed() -> dict[str, str]:
    """Return criterion -> bound, as the page has them."""
    rows = re.findall(r"^\| ((?:S-\d+(?:, )?)+) \| (.+) \|$", PAGE, re.MULTILINE)
    return {name: bound for names, bound in rows for name in names.split(", ")}


def test_every_criterion_is_shown_by_a_test_or_does_not_apply() -> None:
    criteria = {f"S-{number}" for number in range(1, 32)}
    carried = {name for name in shown() if name.startswith("S-")}
    assert carried <= criteria
    assert set(listed()) <= criteria
    not_ours = {name for name, bound in listed().items() if bound.startswith("Does not apply")}
    assert carried | not_ours == criteria
    assert not carried & not_ours


def test_the_switches_of_the_page_are_those_of_the_code() -> None:
    """One that was renamed, or that has another default now, must not stay here."""
    section = PAGE.partition("## Switches")[2].partition("\n## ")[0]
    named = set(re.findall(r"`(?:\[[a-z.]+\])?([a-z_]+)(?: = [^`]+)?`", section))
    fields = {"kind", "allow_http", "targets"}  # of plugins' tables
    for kind in (Usecase, Service):
        fields |= {field.encode_name for field in msgspec.structs.fields(kind)}
    for part in ("master", "relay", "access", "audit"):
        fields |= {
            field.encode_name for field in msgspec.structs.fields(type(getattr(Config(), part)))
        }
    assert named <= fields | {"anonymous"}
    assert {"tokenless", "expiry", "open_metrics", "trusted_proxies", "view", "secret"} <= named
