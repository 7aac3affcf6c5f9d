"""The example of a site with Slurm: its configuration and use cases are good as they are."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from vsmgate.cli import main
from vsmgate.shipped import conf_folder
from vsmgate.usecases.files import TomlSource

SITE = conf_folder() / "slurm"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A copy of the example, with a folder and commands that are there."""
    copy = tmp_path / "site"
    shutil.copytree(SITE, copy)
    for name in ("sbatch", "squeue", "scancel"):
        (tmp_path / name).touch(0o755)
    (tmp_path / "jobs").mkdir()
    config = copy / "vsmgate.toml"
    text = config.read_text().replace('"/var/lib/vsmgate"', f'"{tmp_path}/state"')
    text = text.replace(
        'folder = "/gpfs/vsmgate/jobs"', f'folder = "{tmp_path}/jobs"\nbin_dir = "{tmp_path}"'
    )
    config.write_text(text)
    return config


def check(config: Path) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["check", str(config)])
    return done.exit_code, done.output


def test_the_site_is_good(site: Path) -> None:
    status, said = check(site)
    assert status == 0, said


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        ("SBO1", 'partition = "prod"', 'partition = "a b"', "launch.slurm.partition"),
        ("SBO1", "[launch.slurm.services.backend]", "[launch.slurm.services.back]", "backend"),
        ("SBO-multi", "port = 5008", "port = 5000", "cannot both have port 5000"),
    ],
)
def test_a_mistake_in_it_is_found(site: Path, file: str, old: str, new: str, told: str) -> None:
    path = site.parent / "usecases" / f"{file}.toml"
    path.write_text(path.read_text().replace(old, new))
    status, said = check(site)
    assert status != 0
    assert told in " ".join(said.split())


def test_what_they_serve() -> None:
    sbo1, multi = sorted(TomlSource(SITE / "usecases").usecases(), key=lambda u: len(u.services))
    assert {name: service.port for name, service in sbo1.services.items()} == {
        "renderer": 5000,
        "backend": 8000,
    }
    assert {name: service.port for name, service in multi.services.items()} == {
        f"renderer-{index}": 5000 + index for index in range(9)
    }
    for usecase in (sbo1, multi):
        assert usecase.launch["slurm"]["exclusive"], "fixed ports want a node of their own"
        assert not usecase.tokenless
