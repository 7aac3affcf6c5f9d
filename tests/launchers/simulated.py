"""A stand-in for an engine in a process of its own, as ``bin/simulate`` starts it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import tomllib
from pathlib import Path
from typing import Any

from tests.e2e.rig import ROOT
from tests.launchers.rig import PATIENCE


class Simulated:
    """``said``: what it printed; ``told``: the launcher's table in that, as it stands."""

    def __init__(self, engine: str, folder: Path, *options: str, **environ: str) -> None:
        self._log = folder / "simulate.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "vsmgate.simulators", engine, *options],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, **environ},
            )
        watchdog = threading.Timer(PATIENCE, self._process.kill)
        watchdog.start()
        assert self._process.stdout is not None
        self.said = ""
        for line in self._process.stdout:
            self.said += line
            if "Ctrl-C" in line:
                break
        watchdog.cancel()
        assert "[launchers." in self.said, self.log()
        self.told: dict[str, Any]
        (self.told,) = tomllib.loads(self.said)["launchers"].values()

    def log(self) -> str:
        return self._log.read_text()

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        """End it by a signal; return its exit status."""
        assert self._process.stdout is not None
        self._process.send_signal(number)
        try:
            return self._process.wait(PATIENCE)
        finally:
            self._process.kill()
            self._process.stdout.close()

    def close(self) -> None:
        """End it as Ctrl-C does; nothing happens when it has ended."""
        if self._process.poll() is None:
            assert self.end() == 0, self.log()
