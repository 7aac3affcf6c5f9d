"""The processes of local jobs, as /proc has them (standard library only)."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["Process", "boot_id", "look", "members", "memory", "send"]


class Process(NamedTuple):
    """A live process. ``start``: clock ticks since boot; with it a pid is unique."""

    pid: int
    session: int
    start: int


def look(pid: int) -> Process | None:
    """Return the process ``pid`` of now; None when there is none, or a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name in parentheses may hold anything; proc(5) counts fields from 1.
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    if fields[0] in (b"Z", b"X"):
        return None
    return Process(pid, int(fields[3]), int(fields[19]))


def boot_id() -> str:
    """Return what changes with every start of the machine; empty where nothing says so."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def members(tag: str, session: int | None = None) -> Iterator[Process]:
    """Yield a job's live processes, without this one: in its session, or with its tag."""
    mark = f"VSMGATE_TAG={tag}".encode("ascii")
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        found = look(int(name))
        if found is None:
            continue
        if session is not None and found.session == session:
            yield found
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                environment = file.read()
        except OSError:  # gone, or somebody else's
            continue
        if mark in environment.split(b"\0"):
            yield found


def memory(process: Process) -> int:
    """Return the octets that a process has for itself: not those of files, nor shared ones."""
    try:
        with open(f"/proc/{process.pid}/statm", "rb") as file:
            resident, shared = map(int, file.read().split()[1:3])
    except (OSError, ValueError):  # gone
        return 0
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")


def send(process: Process, number: int) -> bool:
    """Send a signal to exactly this process; return whether it was there to get it."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    try:
        # The descriptor pins whoever has the pid now; only then is it compared.
        now = look(process.pid)
        if now is None or now.start != process.start:
            return False
        signal.pidfd_send_signal(descriptor, number)
    except (ProcessLookupError, PermissionError):
        return False
    finally:
        os.close(descriptor)
    return True
