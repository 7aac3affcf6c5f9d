"""Servers as processes of their own, on one core, gone when the block ends."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from bench.machine import ROOT, Unavailable

__all__ = ["cpu_seconds", "free_port", "own_memory", "run", "serve"]

#: Seconds in which a server must listen; reached only by one that is broken.
PATIENCE = 30.0


@contextlib.contextmanager
def serve(
    command: Sequence[str], folder: Path, core: int | None = None
) -> Iterator[tuple[psutil.Process, str]]:
    """Run a server that says an ``http://`` address; yield it and ``host:port``'s URL."""
    with _process(command, folder, core, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for line in process.stdout:
            _, found, address = line.partition("http://")
            if found:
                break
        else:
            raise Unavailable((folder / "log").read_text()[-2000:])
        yield psutil.Process(process.pid), found + address.strip()


@contextlib.contextmanager
def run(
    command: Sequence[str], folder: Path, core: int, port: int, **environment: str
) -> Iterator[psutil.Process]:
    """Run a server that listens on ``port``; yield it once it does."""
    with _process(command, folder, core, stdout=subprocess.DEVNULL, **environment) as process:
        deadline = time.monotonic() + PATIENCE
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise Unavailable(f"{command[0]} did not start: {_tail(folder / 'log')}")
            time.sleep(0.02)
        yield psutil.Process(process.pid)


@contextlib.contextmanager
def _process(
    command: Sequence[str], folder: Path, core: int | None, stdout: int, **environment: str
) -> Iterator[subprocess.Popen[str]]:
    def pin() -> None:
        if core is not None:
            os.sched_setaffinity(0, {core})

    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=log,
            text=True,
            preexec_fn=pin,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def cpu_seconds(process: psutil.Process) -> float:
    """Return the processor time that a server and its children took so far."""
    return sum(_cpu_of(each) for each in _family(process))


def _cpu_of(process: psutil.Process) -> float:
    # To the nanosecond where the kernel tells (proc_pid_schedstat), else in ticks of 10 ms.
    try:
        threads = [*Path(f"/proc/{process.pid}/task").iterdir()]
        taken = sum(int((each / "schedstat").read_text().split()[0]) for each in threads)
    except (OSError, ValueError, IndexError):
        taken = 0
    if taken:
        return taken / 1e9
    times = process.cpu_times()
    return times.user + times.system


def own_memory(process: psutil.Process) -> int:
    """Return the octets that only a server and its children hold (their USS)."""
    return sum(each.memory_full_info().uss for each in _family(process))


def _family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def _tail(log: Path) -> str:
    return " ".join(log.read_text().split())[-500:]
