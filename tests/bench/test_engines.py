"""``bin/bench engines`` measures, in small."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_it_measures_the_recorded_jobs() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "engines", "--jobs=20", "--rounds=2", "--no-real"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for name in ("recorded, format", "recorded, json", "driver's pass, recorded, format"):
        row = re.search(rf"^{name} +([0-9.]+) +([0-9.]+) +([0-9.]+)", done.stdout, re.MULTILINE)
        assert row is not None, done.stdout
        assert float(row[2]) > 0
