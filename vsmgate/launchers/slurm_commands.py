"""Slurm through its commands: which are run, as whom, and what a failure of each means."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from twisted.internet.interfaces import IReactorProcess, IReactorTime
from twisted.logger import Logger

from vsmgate.errors import EngineRefused, EngineUnreachable
from vsmgate.hands.commands import Completed, run
from vsmgate.launchers.slurm_answers import (
    JOB_FORMAT,
    RECORD_FORMAT,
    Partition,
    SlurmJob,
    failure,
    is_unknown_job,
    parse_jobs,
    parse_json,
    parse_number,
    parse_partitions,
    parse_records,
    select,
)
from vsmgate.launchers.slurm_client import SECRET_VARIABLE, Order

__all__ = ["SlurmCommands", "find_command"]

#: What sudo says when it did not run a command, and will not at another time either.
_REFUSED = re.compile(
    "^sudo: (a password is required|sorry, |unknown user)|^Sorry, user ", re.MULTILINE
)

#: What of the gateway's environment the commands get; never SBATCH_ or SQUEUE_ defaults.
_INHERITED = ("PATH", "HOME", "USER", "LOGNAME", "SLURM_CONF", "KRB5CCNAME", "LD_LIBRARY_PATH")


def find_command(name: str, bin_dir: str | None) -> str | None:
    """Return the path of a program; None when it is not there."""
    return shutil.which(name, path=bin_dir)


class SlurmCommands:
    """A `SlurmClient` that runs sbatch, squeue, sacct, scancel and scontrol.

    ``prefix``: what is put before a command that acts on a user's behalf, with ``{owner}``
    for the user's name; empty to act as the gateway's user. ``json``: ask squeue for JSON.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorProcess,
        *,
        bin_dir: str | None,
        conf: Path | None,
        prefix: Sequence[str],
        timeout: float,
        json: bool,
        accounting: bool,
    ) -> None:
        self._reactor = reactor
        self._clock = IReactorTime(reactor)
        self._bin_dir = bin_dir
        self._prefix = tuple(prefix)
        self._timeout = timeout
        self._json = json
        self._accounting = accounting
        self._environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        # Times as Unix seconds: what is printed otherwise has no time zone.
        self._environment |= {"LC_ALL": "C", "SLURM_TIME_FORMAT": "%s"}
        if conf is not None:
            self._environment["SLURM_CONF"] = str(conf)

    async def submit(self, order: Order) -> int:
        """Submit a job; its script goes through the standard input."""
        argv = ["sbatch", "--parsable", f"--job-name={order.name}", *order.options]
        argv += ["--no-requeue", "--export=NIL", "--chdir=/"]
        argv += ["--open-mode=append", f"--output={order.output}"]
        secret = {SECRET_VARIABLE: order.secret.reveal()} if order.secret else {}
        done = await self._run(argv, owner=order.owner, stdin=order.script.encode(), more=secret)
        if done.status != 0:
            raise self._not_begun(order.owner, done) or _failure("sbatch", done)
        return parse_number(_text(done.out))

    def _not_begun(self, owner: str, done: Completed) -> EngineRefused | EngineUnreachable | None:
        """Return the error where it was not sbatch that failed, but what runs it as the owner.

        Only what sudo is known to refuse is final: another prefix may have failed after sbatch.
        """
        words = _text(done.err)
        if not owner or re.search(r"^(\S*/)?sbatch: ", words, re.MULTILINE):
            return None
        self._log.error(
            "{prefix} failed to run sbatch as {owner} (status {status}): {words}",
            prefix=self._prefix[0],
            owner=owner,
            status=done.status,
            words=words.strip()[:1000],
        )
        if _REFUSED.search(words):
            detail = f"The gateway may not run jobs under the account {owner}; tell its operator."
            return EngineRefused(detail, code="not_permitted")
        return EngineUnreachable(f"Jobs cannot be started under the account {owner} now.")

    async def jobs(
        self, *, numbers: Collection[int] = (), names: Collection[str] = (), user: str = ""
    ) -> list[SlurmJob]:
        """Ask squeue."""
        if not numbers and not names:
            return []
        argv = ["squeue", "--states=all", "--noheader"]
        if user:
            argv.append(f"--user={user}")
        if numbers:
            argv.append(f"--jobs={','.join(map(str, sorted(numbers)))}")
        if names:
            argv.append(f"--name={','.join(sorted(names))}")
        argv.append("--json" if self._json else f"--format={JOB_FORMAT}")
        done = await self._run(argv)
        if done.status != 0:
            if is_unknown_job(_text(done.err)):  # of a single number
                return []
            raise _unreachable("squeue", done)
        jobs = parse_json(done.out) if self._json else parse_jobs(_text(done.out))
        return select(jobs, numbers, names, user)  # JSON knows no filters in some versions

    async def records(
        self, *, numbers: Collection[int] = (), names: Collection[str] = (), user: str = ""
    ) -> list[SlurmJob]:
        """Ask sacct, where there is accounting."""
        if not self._accounting or not (numbers or names):
            return []
        argv = ["sacct", "--allocations", "--noheader", "--parsable2", "--delimiter=\x1f"]
        argv += [f"--format={RECORD_FORMAT}", "--starttime=now-30days"]
        argv.append(f"--user={user}" if user else "--allusers")
        if numbers:
            argv.append(f"--jobs={','.join(map(str, sorted(numbers)))}")
        if names:
            argv.append(f"--name={','.join(sorted(names))}")
        done = await self._run(argv)
        if done.status != 0:
            if "accounting storage is disabled" in _text(done.err):
                self._log.info("Slurm keeps no accounting here; ended jobs tell by their files")
                self._accounting = False
                return []
            raise _unreachable("sacct", done)
        return parse_records(_text(done.out))

    async def cancel(self, number: int, name: str, owner: str) -> None:
        """Ask scancel, which compares the name too."""
        done = await self._run(["scancel", f"--name={name}", str(number)], owner=owner)
        if done.status == 0 or is_unknown_job(_text(done.err)):
            return
        error = _failure("scancel", done)
        if isinstance(error, EngineUnreachable):
            raise error
        self._log.error("job {number} cannot be cancelled: {why}", number=number, why=error.detail)

    async def extend(self, number: int, minutes: int) -> None:
        """Set a job's time limit, as the gateway's own user, who must be allowed to."""
        argv = ["scontrol", "update", f"JobId={number}", f"TimeLimit={minutes}"]
        done = await self._run(argv)
        if done.status == 0:
            return
        error = _failure("scontrol", done)
        if isinstance(error, EngineRefused):
            detail = f"Slurm does not extend the job: {error.native or error.detail}"
            raise EngineRefused(detail, code="not_extendable", native=error.native)
        raise error

    async def partitions(self) -> list[Partition]:
        """Ask sinfo."""
        done = await self._run(["sinfo", "--noheader", "--format=%R|%a|%F"])
        if done.status != 0:
            raise _unreachable("sinfo", done)
        return parse_partitions(_text(done.out))

    async def remove(self, paths: Sequence[str], owner: str) -> None:
        """Remove files and folders of a job, as their owner."""
        done = await self._run(["rm", "-rf", "--", *paths], owner=owner)
        if done.status != 0:
            why = _text(done.err).strip()[:1000]
            self._log.warn("{paths} stay: {why}", paths=paths, why=why)

    async def _run(
        self,
        argv: list[str],
        *,
        owner: str = "",
        stdin: bytes = b"",
        more: Mapping[str, str] = {},
    ) -> Completed:
        name = argv[0]
        path = find_command(name, self._bin_dir if name != "rm" else None)
        prefix = [part.replace("{owner}", owner) for part in self._prefix] if owner else []
        if prefix:
            prefix[0] = find_command(prefix[0], None) or prefix[0]
        if path is None:
            raise EngineUnreachable(f"{name} is not installed on the gateway's machine any more.")
        argv = [*prefix, path, *argv[1:]]
        try:
            done = await run(
                self._reactor, argv, {**self._environment, **more}, stdin, timeout=self._timeout
            )
        except TimeoutError:
            raise EngineUnreachable(f"{name} did not end within {self._timeout:g} s.") from None
        except OSError as error:
            raise EngineUnreachable(f"{name} cannot be started: {error.strerror}.") from None
        if done.status is None:  # killed: what it did before is not known
            raise EngineUnreachable(f"{name} was killed.")
        return done


def _failure(command: str, done: Completed) -> EngineRefused | EngineUnreachable:
    error = failure(command, _text(done.err) or _text(done.out))
    assert isinstance(error, EngineRefused | EngineUnreachable)
    return error


def _unreachable(command: str, done: Completed) -> EngineUnreachable:
    """Return the error for a question that got no answer, whatever the cause."""
    return EngineUnreachable(_failure(command, done).detail)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
