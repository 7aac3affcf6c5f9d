"""docs/plugins.md: the factory that it shows is found, and its use cases are read."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
CONFIG = """
plugin_folders = ["plugins"]

[launchers.x]
kind = "mine"

[jobs]
default_usecase = "test"

[authenticators.tokens]
kind = "static"
generate = true

[usecases.files]
kind = "toml"
folder = "usecases"
"""
USECASE = """
launcher = "x"

[services.renderer]

[launch.mine]
command = ["true"]
"""


def test_what_it_begins_with_is_found_and_told_what_is_missing(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "plugins.md").read_text()
    skeleton = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)[0]
    for name, text in {
        "plugins/acme_mine.py": skeleton,
        "usecases/test.toml": USECASE,
        "vsmgate.toml": CONFIG,
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    # In a process of its own: operators' folders join twisted.plugins for good.
    checked = subprocess.run(
        [sys.executable, "-m", "vsmgate", "check", str(tmp_path / "vsmgate.toml"), "--engines"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "launchers       x (mine)" in checked.stdout, checked.stderr
    assert "ILauncher.poll(refs) attribute was not provided" in checked.stdout
    assert checked.returncode == 1
