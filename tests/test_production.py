"""The example of a real site, ``conf/production.toml``: good as soon as its files are there."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from vsmgate.cli import main
from vsmgate.shipped import conf_folder

KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "vis",
    "clusters": [{"name": "vis", "cluster": {"server": "https://192.0.2.1:6443"}}],
    "users": [{"name": "vis", "user": {"token": "for-tests"}}],
    "contexts": [{"name": "vis", "context": {"cluster": "vis", "user": "vis"}}],
}


def check(config: Path) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["check", str(config)])
    return done.exit_code, done.output


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The example with all that it names: a folder, commands, credentials, use cases."""
    site = tmp_path / "site"
    shutil.copytree(conf_folder() / "usecases", site / "usecases")
    tokens = ["token", "make", "--subject", "nightly", "--file", str(site / "tokens.toml")]
    assert CliRunner().invoke(main, tokens).exit_code == 0
    for name in ("sbatch", "squeue", "scancel"):
        (tmp_path / name).touch(0o755)
    (tmp_path / "jobs").mkdir()
    (site / "unicore-token").touch(0o600)
    (site / "unicore-token").write_text("for-tests")
    (site / "kubeconfig").touch(0o600)
    (site / "kubeconfig").write_text(json.dumps(KUBECONFIG))
    text = (conf_folder() / "production.toml").read_text()
    text = text.replace('"/var/lib/vsmgate"', f'"{tmp_path}/state"')
    text = text.replace(
        'folder = "/gpfs/vsmgate/jobs"', f'folder = "{tmp_path}/jobs"\nbin_dir = "{tmp_path}"'
    )
    (site / "vsmgate.toml").write_text(text)
    return site / "vsmgate.toml"


def test_it_is_good(site: Path) -> None:
    status, said = check(site)
    assert status == 0, said
    assert "cluster (slurm), cloud (ecs)" in said


def test_so_it_is_with_all_that_is_commented_out(site: Path) -> None:
    text = re.sub(r"^#(?=\[|\w+ = )", "", site.read_text(), flags=re.MULTILINE)
    text = text.replace('"sudo"', '"env"')  # sudo may not be here
    site.write_text(text)
    status, said = check(site)
    assert status == 0, said
    assert "partner (unicore), kubernetes (kubernetes)" in said


def test_a_folder_that_is_not_there_is_told_with_file_and_key(site: Path) -> None:
    (site.parent.parent / "jobs").rmdir()
    status, said = check(site)
    assert status == 1
    assert said.startswith(f"{site}: launchers.cluster.folder: '{site.parent.parent}/jobs' is no")


def test_a_rule_for_nothing_is_found(site: Path) -> None:
    site.write_text(site.read_text().replace("[access.launchers.cloud]", "[access.launchers.x]"))
    status, said = check(site)
    assert status == 1
    assert "access.launchers.x" in said
