"""Local jobs that no gateway looks after any more: told, shown, and ended by hand."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from pathlib import Path

from click.testing import CliRunner, Result

from tests.e2e.rig import Gateway
from tests.e2e.site import Site
from vsmgate.cli import main


def local_jobs(*argv: str) -> Result:
    return CliRunner().invoke(main, ["local-jobs", *argv])


def test_a_lost_store_leaves_no_job_that_nobody_ends(
    make_gateway: Callable[..., Gateway], tmp_path: Path
) -> None:
    site = Site(tmp_path)
    gateway = make_gateway(*site.options)
    state = str(gateway.state_dir)
    lost, other = (gateway.ask("POST", "/start", {"usecase": "echo"}).json["job_id"] for _ in "ab")
    for job_id in (lost, other):
        gateway.wait_ready(job_id)
    gateway.end(signal.SIGTERM)
    assert "does not know" not in gateway.log
    for file in gateway.state_dir.glob("vsmgate.sqlite3*"):
        file.unlink()
    gateway.start()
    (told,) = re.findall(r"local runs 2 jobs that the store does not know: (.*);", gateway.log)
    assert told.split() == sorted(f"vsmgate-{job_id}" for job_id in (lost, other))
    mine = gateway.ask("POST", "/start", {"usecase": "echo"}).json["job_id"]
    gateway.wait_ready(mine)

    shown = local_jobs(state)
    assert shown.exit_code == 0
    assert sorted(line.split()[0] for line in shown.output.splitlines()) == sorted(
        [lost, other, mine]
    )
    wrong = local_jobs(state, "--end", lost, "--end", "x" * 26)
    assert wrong.exit_code == 1
    assert "nothing was ended" in wrong.output
    assert gateway.job_processes(lost)

    ended = local_jobs(state, "--end", lost, "--end", other)
    assert ended.exit_code == 0
    for job_id in (lost, other):
        assert job_id in ended.output
        gateway.until(lambda job_id=job_id: not gateway.job_processes(job_id), f"{job_id} to end")
    assert gateway.ask("GET", f"/status/{mine}").json["ready"]
    assert mine not in ended.output


def test_no_job(tmp_path: Path) -> None:
    result = local_jobs(str(tmp_path))
    assert (result.exit_code, result.output) == (0, "no job runs\n")


def test_a_launcher_that_left_the_configuration(
    make_gateway: Callable[..., Gateway], tmp_path: Path
) -> None:
    site = Site(tmp_path)
    gateway = make_gateway(*site.options)
    job_id = gateway.ask("POST", "/start", {"usecase": "echo"}).json["job_id"]
    gateway.wait_ready(job_id)
    gateway.end(signal.SIGTERM)
    as_it_was = site.config.read_text()
    site.config.write_text(as_it_was.replace("[launchers.local]", "[launchers.here]"))
    usecase = tmp_path / "usecases" / "echo.toml"
    usecase.write_text(usecase.read_text().replace('launcher = "local"', 'launcher = "here"'))
    gateway.start()
    assert re.search(f"launcher local is not configured, .*{job_id}", gateway.log)
    assert local_jobs(str(gateway.state_dir), "--end", job_id).exit_code == 0
    gateway.until(lambda: not gateway.job_processes(), "the job to end")
