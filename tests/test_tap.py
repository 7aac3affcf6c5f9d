"""The clock of timers is not the machine's, which people and NTP set."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SET_BACK = """
import gc, sys, time

real, shift = time.time, [0.0]
time.time = lambda: real() + shift[0]  # before Twisted takes it

from twisted.internet import reactor
from vsmgate import tap

options = tap.Options()
options.parseOptions(["--state-dir", sys.argv[1], "--master-port", "0", "--relay-port", "0"])
if sys.argv[2] == "as twistd":
    tap.makeService(options)
else:  # as a worker
    tap.steady(reactor)
called = []

def check():
    print(*called, gc.get_freeze_count() > 10000, flush=True)
    reactor.stop()

def jump(hours):
    shift[0] += hours * 3600
    called.append(hours)

reactor.callLater(0.1, jump, -1)
reactor.callLater(0.2, jump, 2)
reactor.callLater(600.0, called.append, "early")
reactor.callLater(0.4, check)
reactor.run()
"""


def test_timers_do_not_jump_with_the_machines_clock(tmp_path: Path) -> None:
    for way in ("as twistd", "as a worker"):
        played = subprocess.run(
            [sys.executable, "-c", SET_BACK, str(tmp_path / "state"), way],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            cwd=Path(__file__).parent.parent,
        )
        assert (played.stdout, played.returncode) == ("-1 2 True\n", 0), played.stderr
