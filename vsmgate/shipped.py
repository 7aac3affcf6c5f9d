"""Where the files of ``conf/`` are: in the installed package, or beside it in a checkout."""

from __future__ import annotations

from pathlib import Path

__all__ = ["conf_folder", "plugins"]


def conf_folder(package: Path = Path(__file__).parent) -> Path:
    """Return the folder that holds ``vsmgate.toml`` and ``usecases/``.

    A wheel carries the checkout's ``conf/`` as ``vsmgate/conf/``; a checkout (or an
    editable install of one) has it beside the package.
    """
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def plugins(package: Path = Path(__file__).parent) -> tuple[Path, ...]:
    """Return the folder of a checkout's own plugins.

    Installed from a wheel they are in ``twisted.plugins`` already: then there is none.
    """
    beside = package.parent / "plugins"
    return (beside,) if (beside / "vsmgate_service.py").is_file() else ()
