"""The process: its clock of timers, which people and NTP do not set, and its end."""

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


BROKEN = """
import os, sys
from pathlib import Path

from twisted.internet import reactor
from vsmgate import tap

options = tap.Options()
options.parseOptions(["--state-dir", sys.argv[1], "--master-port", "0", "--relay-port", "0"])
gateway = tap.makeService(options)

async def close():
    print("closing", flush=True)
    raise RuntimeError("a plugin's fault")

for driver in gateway.drivers.values():
    driver.launcher.close = close

def look():
    if gateway.api.running and gateway.relay.running:
        gateway.drain_and_stop()
    else:
        reactor.callLater(0.05, look)

reactor.callLater(0.05, look)
gateway.startService()
reactor.addSystemEventTrigger("before", "shutdown", gateway.stopService)
reactor.run()
opened = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
print([path for path in opened if path.endswith("audit.jsonl")])
print([lock.name for lock in Path(sys.argv[1]).glob("*lock*") if lock.read_text()])
"""


def test_a_plugin_that_fails_at_the_end_leaves_nothing_open(tmp_path: Path) -> None:
    played = subprocess.run(
        [sys.executable, "-c", BROKEN, str(tmp_path / "state")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parent.parent,
    )
    told = played.stdout.splitlines()[-3:]
    assert (told, played.returncode) == (["closing", "[]", "[]"], 0), played.stderr
