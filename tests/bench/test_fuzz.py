"""The fuzzers in their short form, and that they find what there is to find."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from bench import fuzz

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.criterion("S-26")
@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_readers_bear_nonsense(name: str) -> None:
    chance = random.Random(f"1 {name}")
    for _ in range(20 if name == "configuration" else 1500):
        fuzz.attack(name, chance)


@pytest.mark.parametrize(
    ("read", "said"),
    [
        (lambda pieces: int(pieces[0]), "ValueError"),  # fails in a way that is not its own
        (lambda pieces: len(pieces), "instead of 1"),  # reads pieces as something else
    ],
)
def test_a_reader_that_does_not_is_found(
    read: fuzz.Read, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(fuzz.TARGETS, "broken", (read, [b"abc"], KeyError))  # type: ignore[arg-type]
    with pytest.raises(fuzz.Found, match=said):
        fuzz.attack("broken", random.Random(1))


@pytest.mark.criterion("S-30")
def test_the_rest_face_keeps_what_openapi_says() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.fuzz", "--cases", "1", "--rest", "3", "--seed", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("No issues found") == 2
