"""One vocabulary: what the code says, the table has, and the documentation shows."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from vsmgate import diagnosis, reasons
from vsmgate.lifecycle import ENDED, OUTCOMES, Event, State, outcome
from vsmgate.lifecycle import TABLE as LIFE
from vsmgate.reasons import REASONS, remedy

ROOT = Path(__file__).parent.parent
#: Where codes are made: whoever ends or delays a job.
PLACES = ("launchers", "jobs", "simulators", "testing")
FILES = ("assembly.py", "errors.py")

_CODE = re.compile(r"[a-z]+(_[a-z]+)*")
#: Names of tables (pattern, code).
_PAIRS = re.compile(r"_?[A-Z_]*(REFUSALS|CODES|REASONS)")


def text(node: ast.AST) -> str | None:
    """Return what a node says, as far as that is written there."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(text(part) or "x" for part in node.values)
    return None


def is_sentence(said: str | None) -> bool:
    return said is not None and " " in said and said[:1].isupper()


def codes(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and code: each code stands before a sentence, or is given as ``code=``.

    ``Reason("lost", "The engine ...")``, ``{"OOMKilled": ("out_of_memory", "The ...")}``,
    ``EngineRefused("No.", code="bad_qos")``, and the second of each pair in a table of refusals.
    """
    for node in ast.walk(ast.parse(source)):
        values: list[ast.expr] = []
        if isinstance(node, ast.Call):
            named = getattr(node.func, "id", getattr(node.func, "attr", ""))
            values = node.args if named != "Finding" else []  # those are the doctor's
            if named == "Reason" and values and text(values[0]):
                yield node.lineno, text(values[0]) or ""
            for keyword in node.keywords:
                if keyword.arg == "code" and (said := text(keyword.value)):
                    yield node.lineno, said
        elif isinstance(node, ast.Tuple | ast.List):
            values = node.elts
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(_PAIRS.fullmatch(getattr(target, "id", "")) for target in targets):
                yield from _pairs(node.value)
        for first, second in pairwise(values):
            said = text(first)
            if said and _CODE.fullmatch(said) and is_sentence(text(second)):
                yield first.lineno, said


def _pairs(table: ast.expr | None) -> Iterator[tuple[int, str]]:
    if isinstance(table, ast.Dict):
        pairs = list(zip(table.keys, table.values, strict=True))
    elif isinstance(table, ast.Tuple | ast.List):
        rows = [row for row in table.elts if isinstance(row, ast.Tuple) and len(row.elts) == 2]
        pairs = [(row.elts[0], row.elts[1]) for row in rows]
    else:
        return
    for _, value in pairs:
        said = text(value)
        if said and _CODE.fullmatch(said):
            yield value.lineno, said


def engine_errors(source: str) -> Iterator[str]:
    """Yield the codes of the engines' errors: they become reasons."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef) and node.name in ("EngineRefused", "EngineUnreachable"):
            for line in node.body:
                if isinstance(line, ast.Assign) and getattr(line.targets[0], "id", "") == "code":
                    yield text(line.value) or ""


def made() -> dict[str, str]:
    """Return each code of the package, and where it is made."""
    package = ROOT / "vsmgate"
    files = [path for place in PLACES for path in sorted((package / place).rglob("*.py"))]
    found = {}
    for path in [*files, *(package / name for name in FILES)]:
        source = path.read_text()
        if path.name == "errors.py":
            found |= dict.fromkeys(engine_errors(source), path.name)
            continue
        for line, code in codes(source):
            found[code] = f"{path.relative_to(ROOT)}:{line}"
    return found


def test_every_code_that_is_made_is_in_the_table() -> None:
    found = made()
    unknown = {code: where for code, where in found.items() if code not in REASONS}
    assert not unknown, f"say in vsmgate/reasons.py what these mean: {unknown}"
    # The search itself finds what it should, of each kind.
    for code in ("lost", "over_quota", "queued_priority", "node_failed", "bad_gres", "port_busy"):
        assert code in found
    assert {"engine_refused", "engine_unreachable"} <= found.keys()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('Reason("no_such_thing", f"It {x}.", native)', ["no_such_thing"]),
        ('raise EngineRefused("No.", code="bad_thing")', ["bad_thing"]),
        ('_ENDS = {"OOMKilled": ("too_big", "It was too big.")}', ["too_big"]),
        ('_REFUSALS = (("no such .*", "bad_thing"),)', ["bad_thing"]),
        ('_CODES: Mapping[str, str] = {"Evicted": "evicted"}', ["evicted"]),
        ('log("a_word", "not a sentence")', []),
    ],
)
def test_the_search(source: str, expected: list[str]) -> None:
    assert sorted({code for _, code in codes(source)}) == expected


def test_the_life_cycle_agrees() -> None:
    for code, meaning in REASONS.items():
        if meaning.outcome is not None:
            assert outcome(code) is meaning.outcome, code
    assert set(OUTCOMES) <= REASONS.keys()
    ends = {meaning.outcome for meaning in REASONS.values()} - {None}
    assert {LIFE[State.RUNNING][event] for event in ends if event is not None} == ENDED
    assert Event.LOST in ends


def test_words() -> None:
    for code, meaning in REASONS.items():
        assert _CODE.fullmatch(code)
        assert meaning.meaning.endswith("."), code
        assert meaning.remedy == "" or meaning.remedy.endswith("."), code
    assert remedy("out_of_memory")
    assert remedy("something new") == ""


def test_the_documentation_shows_the_tables() -> None:
    """Made by ``python -c 'from vsmgate.reasons import table; print(table())'``."""
    page = (ROOT / "docs" / "reasons.md").read_text()
    assert reasons.table() in page
    assert diagnosis.table() in page
