"""Watches over one local job: a small program that outlives the gateway.

Run as ``python -I -S local_supervisor.py FOLDER`` with descriptor 3 open on the locked
``FOLDER/lock``, so that the lock says at every moment whether a supervisor lives. It

1. makes a session of its own and writes ``record.json`` *before* it starts anything, so
   without a record nothing ever ran;
2. starts the services of ``request.json`` (argv lists, no shell), notes their pids with
   their start times, and then closes its standard output: whoever started it knows;
3. waits until a service exits, the time limit is over (``lifetime``, read again on SIGHUP),
   they need too much memory, or SIGTERM; then all processes of the job get SIGTERM and
   after the grace time SIGKILL, and the record says what happened. Meanwhile it gives the
   disk back what the services wrote before their last octets.

Standard library only (and two modules that need no more), to start quickly.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any

if __name__ == "__main__":  # with -I nothing but the standard library is found
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from vsmgate.launchers.local_files import keep_last, write_whole
from vsmgate.launchers.local_processes import boot_id, look, members, memory, send

__all__: list[str] = []

WATCHED = {signal.SIGCHLD, signal.SIGHUP, signal.SIGINT, signal.SIGTERM}
#: Seconds between two looks at what the job uses.
TICK = 1.0


class Supervisor:
    """One job, from its start to its end."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        with open(os.path.join(folder, "request.json"), "rb") as file:
            self.request: dict[str, Any] = json.load(file)
        self.started = time.monotonic()
        me = look(os.getpid())
        assert me is not None
        self.session = me.session
        self.names: dict[int, str] = {}  # pids of children that run
        self.record: dict[str, Any] = {
            "tag": self.request["tag"],
            "pid": me.pid,
            "start": me.start,
            "boot": boot_id(),
            "started_at": self.request["submitted_at"],
            "lifetime": self.request["lifetime"],
            "services": {},
            "cause": None,
            "ended": False,
        }

    def run(self) -> None:
        """Do it all."""
        self.save()
        os.sched_setaffinity(0, self.request["cpus"])  # services inherit it
        cause = self.start()
        if cause is not None:
            self.end(cause, 0.0, tries=1)
            return
        quiet = os.open(os.devnull, os.O_RDWR)
        os.dup2(quiet, 1)  # whoever waits for it sees that the services run
        os.close(quiet)
        self.end(self.wait(), self.request["grace"], tries=60)

    # -- the three parts of its life -------------------------------------------------

    def start(self) -> dict[str, Any] | None:
        """Start the services; return the cause of the end when one cannot be started."""
        for name, service in self.request["services"].items():
            try:
                pid = self.spawn(name, service)
            except OSError as error:
                reason = error.strerror or str(error)
                return {"kind": "refused", "service": name, "detail": reason}
            child = look(pid)
            self.names[pid] = name
            self.record["services"][name] = {
                "pid": pid,
                "start": child.start if child else 0,
                "host": service["host"],
                "port": service["port"],
                "status": None,
            }
        try:
            self.save()
        except OSError as error:
            return {"kind": "refused", "service": "", "detail": f"record.json: {error.strerror}"}
        return None

    def spawn(self, name: str, service: dict[str, Any]) -> int:
        """Start one service with its outputs in files; return its pid."""
        os.chdir(service["directory"])
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        base = os.path.join(self.folder, name)
        return os.posix_spawn(
            service["program"],
            service["argv"],
            service["environment"],
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, f"{base}.stdout", flags, 0o600),
                (os.POSIX_SPAWN_OPEN, 2, f"{base}.stderr", flags, 0o600),
            ],
            setsigmask=[],
            setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
        )

    def wait(self) -> dict[str, Any]:
        """Wait for something that ends the job; return what."""
        most = self.request["memory"]
        while True:
            if most and sum(map(memory, members(self.request["tag"], self.session))) > most:
                return {"kind": "memory", "detail": str(most)}
            left = self.started + self.record["lifetime"] - time.monotonic()
            if left <= 0:
                if not self.read_lifetime():
                    return {"kind": "walltime"}
                continue
            got = signal.sigtimedwait(WATCHED, min(left, TICK))
            self.keep_outputs_small()
            if got is None:
                continue
            if got.si_signo == signal.SIGCHLD:
                exited = self.reap()
                if exited:  # of several at once, one that failed tells more
                    services = self.record["services"]
                    exited.sort(key=lambda name: services[name]["status"] == 0)
                    return {"kind": "exit", "service": exited[0]}
            elif got.si_signo == signal.SIGHUP:
                self.read_lifetime()
            else:
                return {"kind": "signal"}

    def end(self, cause: dict[str, Any], grace: float, tries: int) -> None:
        """End every process of the job, gently first, and record it."""
        self.record["cause"] = cause
        self.save_if_possible()
        number, patience = (signal.SIGTERM if grace > 0 else signal.SIGKILL), grace
        while left := list(members(self.request["tag"], self.session)):
            for process in left:
                send(process, number)
            limit = time.monotonic() + patience
            while (rest := limit - time.monotonic()) > 0 and self.alive():
                signal.sigtimedwait(WATCHED, min(rest, TICK if self.names else 0.1))
                self.keep_outputs_small()
                self.reap()
            # What withstands even SIGKILL sits in the kernel: go on asking, not too often.
            number, patience = signal.SIGKILL, 1.0
        self.reap()
        self.record["ended"] = True
        while not self.save_if_possible() and (tries := tries - 1):
            time.sleep(1.0)

    # -- parts of the parts ------------------------------------------------------------

    def alive(self) -> bool:
        """Return whether there is a child, or failing that any process, of the job left."""
        return bool(self.names) or any(members(self.request["tag"], self.session))

    def reap(self) -> list[str]:
        """Take in the children that exited; return the names of those services."""
        exited = []
        while self.names:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            name = self.names.pop(pid)
            # As subprocess has it: the exit code, or minus the signal.
            self.record["services"][name]["status"] = os.waitstatus_to_exitcode(status)
            exited.append(name)
        return exited

    def keep_outputs_small(self) -> None:
        """Keep the last octets of what each service wrote."""
        for name in self.request["services"]:
            for stream in ("stdout", "stderr"):
                path = os.path.join(self.folder, f"{name}.{stream}")
                keep_last(path, self.request["max_output"])

    def read_lifetime(self) -> bool:
        """Take over a new time limit; return whether there was one."""
        try:
            with open(os.path.join(self.folder, "lifetime"), encoding="ascii") as file:
                lifetime = float(file.read())
        except (OSError, ValueError):
            return False
        if lifetime == self.record["lifetime"]:
            return False
        self.record["lifetime"] = lifetime
        self.save_if_possible()
        return True

    def save(self) -> None:
        """Write the record."""
        write_whole(os.path.join(self.folder, "record.json"), json.dumps(self.record).encode())

    def save_if_possible(self) -> bool:
        """Write the record; a full disk must not keep the job from being ended."""
        try:
            self.save()
        except OSError:  # nor can it be told anywhere: the log is on the same disk
            return False
        return True


def main() -> None:
    """Run the job of the folder that the command line names."""
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    os.setsid()  # fails for the leader of a group: then this is not how it is started
    os.umask(0o077)
    os.set_inheritable(3, False)
    Supervisor(sys.argv[1]).run()


if __name__ == "__main__":
    main()
