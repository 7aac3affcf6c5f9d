"""bin/bench flood: one short run of the real thing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench.machine import Unavailable, generator_program

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.criterion("S-16", "S-19")
def test_s19_a_flood_of_bad_tokens_is_no_flood_for_the_provider_or_the_log() -> None:
    try:
        generator_program(install=False)
    except Unavailable as missing:
        pytest.skip(str(missing))
    command = [sys.executable, "-m", "bench", "flood", "--rounds", "1", "--seconds", "0.3"]
    done = subprocess.run(
        [*command, "--relays", "4"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode in (0, 1), done.stderr  # how fast this machine is now is no matter
    said = {
        what: tuple(map(int, found))
        for what, *found in re.findall(r"  (asked|lines) .*? (\d+)\s+\(at most (\d+)", done.stdout)
    }
    assert set(said) == {"asked", "lines"}, done.stdout + done.stderr
    for what, (seen, most) in said.items():
        assert 0 < seen <= most, what
