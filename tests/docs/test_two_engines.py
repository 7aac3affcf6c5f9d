"""Two engines in one gateway: a use case names both, in order of preference."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.rig import ROOT, Gateway
from tests.e2e.site import shipped_site

USECASE = f"""
launcher = "nowhere"
[services.renderer]
[launch.shell]
command = '{sys.executable} -m http.server --bind 127.0.0.1 "$PORT"'
[launch.local.services.renderer]
command = ["{{python}}", "-m", "http.server", "--bind", "{{host}}", "{{port}}"]
"""


@pytest.mark.parametrize(
    ("shell", "launcher", "why"),
    [
        (["/bin/sh"], "box", "The first choice."),
        (["/bin/sh", "-c", "echo no route >&2; exit 255"], "local", "box cannot be reached."),
    ],
)
def test_the_first_that_answers_gets_the_job(
    tmp_path: Path,
    make_gateway: Callable[..., Gateway],
    shell: list[str],
    launcher: str,
    why: str,
) -> None:
    top = f"plugin_folders = [{json.dumps(str(ROOT / 'docs' / 'examples'))}]"
    tables = f"""
        launcher = ["box", "local"]
        [launchers.box]
        kind = "shell"
        shell = {json.dumps(shell)}
        folder = "{tmp_path}/box"
        targets = ["127.0.0.1"]
        """
    gateway = make_gateway(*shipped_site(tmp_path, {"viewer": USECASE}, tables, top))
    usecase = gateway.ask("GET", "/v1/usecases/viewer").json
    assert (usecase["launcher"], usecase["launchers"]) == ("box", ["box", "local"])
    job_id = gateway.ask("POST", "/start", {"usecase": "viewer"}).json["job_id"]
    gateway.wait_ready(job_id)
    job = gateway.ask("GET", f"/v1/jobs/{job_id}").json
    assert (job["launcher"], job["launcher_reason"]) == (launcher, why)
    gateway.stop_job(job_id)
