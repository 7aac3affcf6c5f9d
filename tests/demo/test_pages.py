"""The programs with pages: what is theirs alone, and what happens without their extra."""

from __future__ import annotations

import subprocess
import sys

import pytest

from vsmgate.demo.viser_scene import branches


def test_branches() -> None:
    assert branches(0, 0.4) == [((0.0, 0.0, 0.0), (0.0, 0.0, 1.0))]
    tree = branches(5, 0.4)
    assert len(tree) == 2**6 - 1
    ends = {end for _, end in tree}
    assert all(start in ends for start, _ in tree[1:])
    assert {end[2] for _, end in branches(3, 0.0)} == {1.0, 1.75, 2.3125, 2.734375}


@pytest.mark.parametrize(("program", "library"), [("viser_scene", "viser"), ("trame_cone", "vtk")])
def test_without_its_extra_a_program_says_what_to_install(program: str, library: str) -> None:
    """The last line of its output is what users read as the job's reason."""
    code = f"import sys; sys.modules[{library!r}] = None\n"
    code += f"from vsmgate.demo.{program} import main\nmain([])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    extra = "viser" if program == "viser_scene" else "trame"
    assert ended.returncode == 1
    assert f"pip install 'vsmgate[{extra}]'" in ended.stderr.splitlines()[-1]
