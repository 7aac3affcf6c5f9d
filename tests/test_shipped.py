"""Where conf/ and plugins/ are found."""

from __future__ import annotations

from pathlib import Path

from vsmgate.shipped import conf_folder, plugins


def test_a_checkout_has_it_beside_the_package() -> None:
    root = Path(__file__).parent.parent
    assert conf_folder() == root / "conf"
    assert plugins() == (root / "plugins",)


def test_a_wheel_has_it_inside(tmp_path: Path) -> None:
    (tmp_path / "vsmgate/conf").mkdir(parents=True)
    assert conf_folder(tmp_path / "vsmgate") == tmp_path / "vsmgate/conf"
    assert plugins(tmp_path / "vsmgate") == (), "there they are in twisted.plugins"
