"""The README's first example draws what it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy
from PIL import Image

from tests.e2e.rig import ROOT, Gateway


def test_the_example_draws_two_different_pictures(gateway: Gateway, tmp_path: Path) -> None:
    example = ROOT / "docs" / "examples" / "draw.py"
    command = [sys.executable, "-W", "ignore", str(example), gateway.master]
    command.append(str(gateway.state_dir / "token"))
    said = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert said.returncode == 0, said.stderr
    front, side = (
        numpy.asarray(Image.open(tmp_path / name).convert("RGB"))
        for name in ("front.png", "side.png")
    )
    assert front.shape == side.shape == (1080, 1920, 3)
    assert front.std() > 5
    assert (front != side).mean() > 0.05
