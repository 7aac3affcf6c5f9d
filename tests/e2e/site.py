"""A site of its own for a test: a configuration, and use cases that do as they are told."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.e2e.rig import ROOT
from vsmgate.shipped import conf_folder

__all__ = ["Site", "demo_on", "shipped_site"]

CONFIG = """\
{jobs}
[store]
kind = "sql"
[authenticators.tokens]
kind = "static"
generate = true
[launchers.local]
kind = "local"
grace = 1.0
[usecases.files]
kind = "toml"
folder = "usecases"
"""

USECASE = """\
launcher = "local"
[services.echo]
{service}
[limits]
{limits}
[parameters]
type = "object"
additionalProperties = false
properties.size = {{ type = "integer", minimum = 1 }}
[launch.local.services.echo]
command = {command}
"""


class Site:
    """A folder with ``vsmgate.toml`` and use cases, of which ``echo`` is the default."""

    def __init__(self, folder: Path, jobs: str = "", more: str = "") -> None:
        self.config = folder / "vsmgate.toml"
        self._usecases = folder / "usecases"
        self._usecases.mkdir(exist_ok=True)
        self.write(jobs, more)
        self.usecase("echo")

    def write(self, jobs: str = "", more: str = "") -> None:
        """Write the configuration: the lines ``jobs`` of ``[jobs]``, and ``more`` tables."""
        self.config.write_text(
            CONFIG.format(jobs=f'[jobs]\ndefault_usecase = "echo"\n{jobs}') + more
        )

    def usecase(
        self,
        name: str,
        command: Sequence[str] = ("{python}", str(ROOT / "tests/e2e/echo.py"), "{port}"),
        *,
        limits: str = "",
        service: str = 'health = { kind = "websocket" }',
    ) -> None:
        """Write a use case; without a command its service echoes messages."""
        text = USECASE.format(command=json.dumps(command), limits=limits, service=service)
        (self._usecases / f"{name}.toml").write_text(text)

    @property
    def options(self) -> tuple[str, str]:
        """The options that make a gateway use it."""
        return "--config", str(self.config)


def shipped_site(
    folder: Path, usecases: Mapping[str, str], tables: str, top: str = ""
) -> tuple[str, str]:
    """Write the shipped configuration with use cases, name -> text, the default one first.

    ``tables`` follow it; lines before them are of ``[usecases.files]``. ``top``: lines before
    all tables. Returns the options that make a gateway use it.
    """
    (folder / "usecases").mkdir(exist_ok=True)
    for name, text in usecases.items():
        (folder / "usecases" / f"{name}.toml").write_text(text)
    shipped = (conf_folder() / "vsmgate.toml").read_text()
    jobs = f'[jobs]\ndefault_usecase = "{next(iter(usecases))}"'
    config = folder / "vsmgate.toml"
    shipped = shipped.replace("[jobs]", jobs, 1)
    config.write_text(f'{top}\n{shipped}\nfolder = "usecases"\n{tables}\n')
    return "--config", str(config)


def demo_on(launcher: str) -> str:
    """Return the demo's use case, on another launcher."""
    text = (conf_folder() / "usecases" / "demo.toml").read_text()
    return text.replace('launcher = "local"', f'launcher = "{launcher}"', 1)
