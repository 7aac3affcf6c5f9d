"""The soak in its short form: a real gateway, seconds instead of minutes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench.soak import EXACT, SLACK, leaks

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.criterion("C-26")
@pytest.mark.parametrize("engine", ["sockets", "transports"])
def test_nothing_is_left_after_a_short_soak(engine: str) -> None:
    command = [sys.executable, "-m", "bench.soak", "--engine", engine, "--relays", "60"]
    done = subprocess.run(
        [*command, "--seconds", "3", "--warm-up", "2"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Nothing is left." in done.stdout


def test_leaks_are_told() -> None:
    before = {**dict.fromkeys(EXACT, 10), "objects": 10**6, "memory": 50 * 2**20}
    assert leaks(before, before) == []
    assert leaks(before, {**before, "timers": 9, "objects": 10**7, "memory": 52 * 2**20}) == []
    for name in EXACT:
        assert leaks(before, {**before, name: 11}) == [f"{name}: 10 -> 11"]
    assert len(leaks(before, {**before, "memory": 60 * 2**20 + SLACK})) == 1
