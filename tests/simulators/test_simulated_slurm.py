"""``bin/simulate slurm``: what it prints works, and nothing is left of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec import convert

from tests.e2e.rig import ROOT
from tests.launchers.simulated import Simulated
from vsmgate.launchers.slurm_rest_words import VERSION
from vsmgate.launchers.slurm_settings import SlurmSettings, settings_problems
from vsmgate.simulators import slurm_cluster
from vsmgate.simulators.slurm_cluster import SlurmCluster, spoken


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_runs_until_it_is_told(
    require: Callable[[object, str], None], tmp_path: Path, number: signal.Signals
) -> None:
    missing = slurm_cluster.missing()
    require(not missing, missing)
    simulated = Simulated("slurm", tmp_path)
    try:
        said = simulated.said.replace("#rest", "rest")
        table = tomllib.loads(said)["launchers"]["cluster"]
        assert table.pop("kind") == "slurm"
        assert table.pop("targets") == ["127.0.0.0/8"]
        settings = convert(table, SlurmSettings)
        assert settings_problems(settings, "launchers.cluster", tmp_path) == []
        assert settings.conf is not None
        folder = Path(settings.conf).parent
        environment = {**os.environ, "SLURM_CONF": settings.conf}
        nodes = subprocess.check_output(
            ["sinfo", "-h", "-N", "-o", "%N %T"], env=environment, text=True, timeout=30
        )
        assert nodes.split("\n")[:2] == ["n1 idle", "n2 idle"]
        # A job that outlives it would be left behind.
        subprocess.check_output(
            ["sbatch", "--wrap", "sleep 1000", "--output=/dev/null"], env=environment, timeout=30
        )
    finally:
        status = simulated.end(number)
    assert status == 0
    assert not folder.exists()
    watched = SlurmCluster(tmp_path)
    watched.folder, watched.conf = folder, folder / "slurm.conf"
    assert watched.processes() == []


def test_a_folder_must_be_new(require: Callable[[object, str], None], tmp_path: Path) -> None:
    missing = slurm_cluster.missing()
    require(not missing, missing)
    done = subprocess.run(
        [sys.executable, "-m", "vsmgate.simulators", "slurm", "--folder", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "File exists; name a new one" in done.stderr


def test_what_is_missing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm_cluster, "NEEDED", ("no-such-daemon", "sh"))
    assert slurm_cluster.missing() == "Slurm (no-such-daemon)"


def test_only_apis_that_the_launcher_speaks() -> None:
    versions = [f"v0.0.{number}" for number in range(35, 100)]
    said = "Possible data_parser plugins:\n" + "".join(f"data_parser/{v}\n" for v in versions)
    assert spoken(said) == list(filter(VERSION.fullmatch, versions))
    assert spoken("openapi/dbv0.0.39\nopenapi/v0.0.39\nopenapi/v0.0.38\n") == ["v0.0.38"]
    assert spoken("slurmrestd: fatal: Unable to find plugin\n") == []
