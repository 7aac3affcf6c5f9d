"""Slurm through slurmrestd, with a token (JWT).

slurmrestd passes the token on to the controller, so a bad one may be told by the controller
only, as *Unspecified error* or *Zero Bytes were transmitted*: in these cases the message says
to look at the token too.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from twisted.logger import Logger

from vsmgate.errors import BadCredentials, EngineError, EngineRefused, EngineUnreachable
from vsmgate.hands.http_client import HttpAnswer, HttpClient, HttpFailed, http_client
from vsmgate.hands.threads import Threads
from vsmgate.interfaces import Context
from vsmgate.launchers.slurm_answers import (
    Partition,
    SlurmJob,
    failure,
    parse_json,
    parse_partitions_json,
    select,
)
from vsmgate.launchers.slurm_client import Order
from vsmgate.launchers.slurm_rest_words import RestAnswer, description, parse_answer, time_limit
from vsmgate.launchers.slurm_settings import RestSettings

__all__ = ["SlurmRest", "rest_client"]

_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+", re.ASCII)


class SlurmRest:
    """A `SlurmClient` that asks slurmrestd, as one user. Accounting is not asked."""

    _log = Logger()

    def __init__(
        self, settings: RestSettings, http: HttpClient, threads: Threads, config_dir: Path
    ) -> None:
        self._settings = settings
        self._http = http
        self._threads = threads
        self._token_file = config_dir / settings.token_file
        self._base = f"{settings.url.rstrip('/')}/slurm/{settings.version}"

    async def submit(self, order: Order) -> int:
        """POST a job."""
        body = description(order, self._settings.version)
        try:
            answer = await self._ask("POST", "/job/submit", body)
        except BadCredentials as error:
            raise EngineRefused(error.detail, code=error.code) from None
        if isinstance(answer.job_id, int) and answer.job_id > 0:
            return answer.job_id
        raise _failure(answer)

    async def jobs(
        self, *, numbers: Collection[int] = (), names: Collection[str] = (), user: str = ""
    ) -> list[SlurmJob]:
        """GET the job, or where there are several all jobs of the cluster."""
        if not numbers and not names:
            return []
        single = f"/job/{next(iter(numbers))}" if len(numbers) == 1 and not names else ""
        said = await self._send("GET", single or "/jobs")
        answer = _parse(said)
        if answer.errors:
            if single and answer.unknown_job:
                return []
            raise _unreachable(answer)
        return select(parse_json(said.body), numbers, names, user)

    async def records(
        self, *, numbers: Collection[int] = (), names: Collection[str] = (), user: str = ""
    ) -> list[SlurmJob]:
        """Return nothing: jobs that the controller forgot tell by their files."""
        return []

    async def cancel(self, number: int, name: str, owner: str) -> None:
        """DELETE the job, once it is known that the number is its own."""
        if not any(job.name == name for job in await self.jobs(numbers=[number])):
            return
        answer = await self._ask("DELETE", f"/job/{number}")
        if not answer.errors or answer.unknown_job or "already" in answer.words:
            return
        error = _failure(answer)
        if isinstance(error, EngineUnreachable):
            raise error
        self._log.error("job {number} cannot be cancelled: {why}", number=number, why=error.detail)

    async def extend(self, number: int, minutes: int) -> None:
        """POST the job's new time limit."""
        body = time_limit(minutes, self._settings.version)
        answer = await self._ask("POST", f"/job/{number}", body)
        if not answer.errors:
            return
        error = _failure(answer)
        if isinstance(error, EngineRefused):
            detail = f"Slurm does not extend the job: {answer.words}"
            raise EngineRefused(detail, code="not_extendable", native=answer.words)
        raise error

    async def partitions(self) -> list[Partition]:
        """GET them."""
        said = await self._send("GET", "/partitions")
        answer = _parse(said)
        if answer.errors:
            raise _unreachable(answer)
        return parse_partitions_json(said.body)

    async def _ask(self, method: str, path: str, body: bytes | None = None) -> RestAnswer:
        return _parse(await self._send(method, path, body))

    async def _send(self, method: str, path: str, body: bytes | None = None) -> HttpAnswer:
        headers = {
            "X-SLURM-USER-NAME": self._settings.user,
            "X-SLURM-USER-TOKEN": await self._token(),
        }
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            answer = await self._http.request(method, f"{self._base}{path}", headers, body)
        except HttpFailed as error:
            raise EngineUnreachable(f"slurmrestd cannot be asked now: {error}.") from None
        if answer.status in (401, 403):
            detail = f"slurmrestd does not take the gateway's token ({answer.status}); renew it."
            raise BadCredentials(detail)
        if answer.status == 404 and parse_answer(answer.body) is None:
            version = self._settings.version
            raise EngineUnreachable(f"slurmrestd has no API {version} there (404); set version.")
        return answer

    async def _token(self) -> str:
        try:
            text = await self._threads.run(self._token_file.read_bytes)
        except OSError as error:
            why = error.strerror or str(error)
            raise EngineUnreachable(f"The token for slurmrestd cannot be read: {why}.") from None
        token = text.decode("utf-8", "replace").strip().removeprefix("SLURM_JWT=")
        if not _TOKEN.fullmatch(token):
            raise EngineUnreachable("The file of the token for slurmrestd holds no token.")
        return token


def rest_client(
    settings: RestSettings, timeout: float, threads: Threads, context: Context
) -> SlurmRest:
    """Return a client on the network; ``timeout`` bounds each question."""
    http = http_client(
        context.reactor,
        ca_file=context.config_dir / settings.ca_file if settings.ca_file else None,
        timeout=timeout,
        max_body=256 * 1024 * 1024,  # the whole cluster's jobs, some 3 KB each
        persistent=False,
    )
    return SlurmRest(settings, http, threads, context.config_dir)


def _parse(answer: HttpAnswer) -> RestAnswer:
    """Return an answer of slurmrestd; others, of a proxy before it, tell nothing of Slurm."""
    parsed = parse_answer(answer.body)
    if parsed is None or (answer.status >= 400 and not parsed.errors):
        raise EngineUnreachable(
            f"What answers at the URL of slurmrestd is not slurmrestd (status {answer.status})."
        )
    return parsed


def _failure(answer: RestAnswer) -> EngineError:
    error = failure("slurmrestd", answer.words)
    passing = isinstance(error, EngineUnreachable) or not answer.words
    return _unreachable(answer) if passing else error


def _unreachable(answer: RestAnswer) -> EngineUnreachable:
    words = answer.words or "nothing"
    doubtful = re.search("unspecified|zero bytes|authentication", words, re.IGNORECASE)
    hint = " (is its token still good?)" if doubtful else ""
    return EngineUnreachable(f"Slurm cannot be asked now; slurmrestd said: {words}{hint}")
