"""The demo through a real gateway, on a real Slurm."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from tests.e2e.rig import Gateway
from tests.launchers.slurm_rig import SlurmRig
from vsmgate.shipped import conf_folder


def test_the_demo_is_drawn_by_slurm(
    slurm: SlurmRig, tmp_path: Path, make_gateway: Callable[..., Gateway]
) -> None:
    usecases = tmp_path / "usecases"
    usecases.mkdir()
    demo = (conf_folder() / "usecases" / "demo.toml").read_text()
    (usecases / "demo.toml").write_text(
        demo.replace('launcher = "local"', 'launcher = "cluster"', 1)
    )
    config = tmp_path / "vsmgate.toml"
    config.write_text(
        (conf_folder() / "vsmgate.toml").read_text()
        + f"""
        folder = "usecases"
        [launchers.cluster]
        kind = "slurm"
        targets = ["127.0.0.0/8"]
        bind = "127.0.0.1"
        address = "127.0.0.1"
        python = {json.dumps(sys.executable)}
        conf = {json.dumps(str(slurm.cluster.conf))}
        """
    )
    gateway = make_gateway("--config", str(config))
    job_id = gateway.start_demo()
    slurm.tags.append(f"vsmgate-{job_id}")
    status = gateway.ask("GET", f"/status/{job_id}").json
    assert status["end_time"].endswith("+00:00")
    assert slurm.left().strip()
    gateway.ask("POST", f"/stop/{job_id}")
    gateway.until(lambda: gateway.ask("GET", f"/status/{job_id}").status == 410, "the job's end")
    assert slurm.left().strip() == ""
