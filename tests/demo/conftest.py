from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Timer

import pytest

START_TIMEOUT = 30.0
ROOT = Path(__file__).resolve().parents[2]


class Program:
    """One of the demo's programs as a child process, listening on a port of its choice."""

    def __init__(self, module: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"vsmgate.demo.{module}", *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def start(self, last: str) -> int:
        """Read its log up to a line that ends so; the port."""
        assert self.process.stdout is not None
        watchdog = Timer(START_TIMEOUT, self.process.kill)
        watchdog.start()
        self.lines = []
        try:
            for line in self.process.stdout:
                self.lines.append(line.rstrip("\n"))
                if re.search(last, line):
                    break
            else:
                pytest.fail("it did not start:\n" + "\n".join(self.lines))
        finally:
            watchdog.cancel()
        match = re.search(r"127\.0\.0\.1:(\d+)", "\n".join(self.lines))
        assert match is not None
        return int(match[1])

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()


@pytest.fixture
def start() -> Iterator[Callable[..., tuple[Program, int]]]:
    """Start a program: its module and arguments; the program and its port."""
    programs: list[Program] = []

    def start(module: str, *arguments: str) -> tuple[Program, int]:
        program = Program(module, *arguments)
        programs.append(program)
        last = {"renderer": r"Brayns service started\.$", "backend": r"Server running on "}
        return program, program.start(last[module])

    yield start
    for program in programs:
        program.stop()


@pytest.fixture(scope="module")
def renderer_port() -> Iterator[int]:
    """A renderer for tests that leave it as it was."""
    program = Program("renderer", "--uri", "127.0.0.1:0", "--max-clients", "20")
    yield program.start(r"Brayns service started\.$")
    program.stop()
