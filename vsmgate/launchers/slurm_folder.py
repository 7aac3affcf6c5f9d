"""What a job's script left in the shared folder (`vsmgate.launchers.job_script`).

Blocking: called in threads. Jobs may run as other users than the gateway, and write what
they like; so no link is followed, only regular files and folders of the job's own user
count, and everything is bounded.
"""

from __future__ import annotations

import errno
import os
import re
import stat

from vsmgate.launchers.job_report import SERVICE, Ending, ending_in, ports_in
from vsmgate.model import JOB_ID, LogStream

__all__ = ["Ending", "last_words", "read_ending", "read_log", "read_number", "read_ports"]

_SMALL = 16 * 1024
_LONGEST_TAIL = 1024 * 1024
_WORDS = 2048
#: No such file; and what somebody put there instead.
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.EPERM})
_ABSENT |= {errno.EISDIR, errno.ENXIO}
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


def read_number(folder: str, job_id: str, uid: int) -> int | None:
    """Return the number under which Slurm runs a job."""
    text = _text(folder, job_id, "job", uid).strip()
    return int(text) if re.fullmatch(r"[1-9][0-9]{0,9}", text, re.ASCII) else None


def read_ports(folder: str, job_id: str, uid: int) -> dict[str, int]:
    """Return service -> port; empty until the script wrote them. None is privileged."""
    return ports_in(_text(folder, job_id, "ports", uid))


def read_ending(folder: str, job_id: str, uid: int) -> Ending | None:
    """Return how a job ended; None when its script did not get to say it."""
    return ending_in(_text(folder, job_id, "exit", uid))


def read_log(
    folder: str, job_id: str, uid: int, service: str, stream: LogStream, tail: int
) -> bytes:
    """Return at most the last ``tail`` octets that a service wrote."""
    if not SERVICE.fullmatch(service):
        return b""
    return _tail(folder, job_id, f"{service}.{stream.value}", uid, min(tail, _LONGEST_TAIL))


def last_words(folder: str, job_id: str, uid: int, service: str) -> str:
    """Return the last lines of a service, or of the script itself; at most 2 KiB."""
    data = b""
    if service:
        data = read_log(folder, job_id, uid, service, LogStream.STDERR, _WORDS)
        data = data or read_log(folder, job_id, uid, service, LogStream.STDOUT, _WORDS)
    if not data and JOB_ID.fullmatch(job_id):
        data = _tail(folder, "", f"{job_id}.log", uid, _WORDS)
    return data.decode("utf-8", "replace").strip()


def _text(folder: str, job_id: str, name: str, uid: int) -> str:
    return _tail(folder, job_id, name, uid, _SMALL).decode("utf-8", "replace")


def _tail(folder: str, job_id: str, name: str, uid: int, octets: int) -> bytes:
    """Return the end of ``folder/job_id/name``; empty when there is no such file of ``uid``."""
    try:
        place = os.open(folder, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
        try:
            if job_id:
                inner = _open(job_id, uid, os.O_DIRECTORY, place)
                os.close(place)
                place = inner
            with open(_open(name, uid, 0, place), "rb") as file:
                size = os.fstat(file.fileno()).st_size
                file.seek(max(0, size - octets))
                return file.read(octets)
        finally:
            os.close(place)
    except OSError as error:
        if error.errno in _ABSENT:
            return b""
        raise


def _open(name: str, uid: int, flags: int, place: int) -> int:
    """Open an entry of a folder that belongs to ``uid`` and is what ``flags`` says."""
    descriptor = os.open(name, _FLAGS | flags, dir_fd=place)
    status = os.fstat(descriptor)
    right = stat.S_ISDIR(status.st_mode) if flags else stat.S_ISREG(status.st_mode)
    if not right or status.st_uid != uid:
        os.close(descriptor)
        raise OSError(errno.ENOENT, "is not the job's own")
    return descriptor
