"""Whether this machine would run local jobs."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from twisted.internet.interfaces import IReactorProcess

from vsmgate.hands.commands import run
from vsmgate.launchers.folders import folder_problem

__all__ = ["check_machine"]


async def check_machine(reactor: IReactorProcess, state_dir: Path, bind: str) -> Sequence[str]:
    """Return what is wrong: with the folder of jobs, with processes, with ports.

    ``bind``: the address where services are told to listen.
    """
    problems = [folder_problem(state_dir / "jobs")]
    argv = [sys.executable, "-I", "-S", "-c", ""]  # as a job's supervisor is started
    try:
        done = await run(reactor, argv, {}, timeout=20.0)
        if done.status != 0:
            words = done.err.decode("utf-8", "replace").strip()
            problems.append(f"{sys.executable} does not run: {words or 'it was killed'}.")
    except (OSError, TimeoutError) as error:
        problems.append(f"No process can be started: {error}.")
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as listener:
            listener.bind((bind, 0))
    except OSError as error:
        why = os.strerror(error.errno or 0)
        problems.append(
            f"No service can listen at {bind}: {why}. Set bind to an address of this machine."
        )
    return [problem for problem in problems if problem]
