"""A gateway in a process of its own, as an operator starts it."""

from __future__ import annotations

import re
import signal
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Timer

#: Seconds after which a gateway that did not come up, or did not end, is killed.
PATIENCE = 60.0


class Running:
    """A gateway that printed where it listens; ``said`` is that, line by line."""

    def __init__(self, process: subprocess.Popen[str], said: list[str], log: Path) -> None:
        self.process = process
        self.said = said
        self._log = log

    @property
    def log(self) -> str:
        """What it wrote to stderr so far."""
        return self._log.read_text()

    @property
    def master(self) -> str:
        """The URL of the REST face."""
        return self._url("http")

    @property
    def relay(self) -> str:
        """The URL of the relay."""
        return self._url("ws")

    def _url(self, scheme: str) -> str:
        (url,) = re.findall(rf"^.*?({scheme}://\S+)$", "\n".join(self.said[:3]), re.MULTILINE)
        return str(url)

    def get(self, path: str) -> tuple[int, bytes]:
        """GET from the master."""
        with urllib.request.urlopen(self.master + path, timeout=10) as response:
            return response.status, response.read()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


@contextmanager
def gateway(
    argv: Sequence[str | Path], cwd: Path, environ: Mapping[str, str] | None = None
) -> Iterator[Running]:
    """Start ``argv`` in ``cwd``; yield once both faces listen; leave nothing running."""
    log = cwd / "stderr"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            argv,
            cwd=cwd,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    too_long = Timer(PATIENCE, process.kill)
    too_long.start()
    assert process.stdout is not None
    try:
        said = []
        for line in process.stdout:
            said.append(line.rstrip())
            if line.strip().startswith("try "):
                break
        else:
            raise AssertionError(f"{argv} ended early; it said {said}\n{log.read_text()}")
        too_long.cancel()
        yield Running(process, said, log)
    finally:
        too_long.cancel()
        process.kill()
        process.wait()
        process.stdout.close()
