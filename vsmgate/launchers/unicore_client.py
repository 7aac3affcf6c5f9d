"""One UNICORE site over its REST API: what is asked, as whom, and what each answer means.

Every question carries the credential and, where jobs run as their owners, the header
``X-UNICORE-User-Preferences``. An answer may name a security session, which later questions of
the same kind show so that the server need not look at the credential again; when it has expired
(HTTP 432) the question is repeated once without it.

https://unicore-docs.readthedocs.io/en/latest/user-docs/rest-api/
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
from twisted.logger import Logger

from vsmgate.errors import BadCredentials, EngineRefused, EngineUnreachable
from vsmgate.hands.http_client import HttpAnswer, HttpFailed, http_client
from vsmgate.launchers.slurm_answers import SlurmJob
from vsmgate.launchers.unicore_answers import (
    FIELDS,
    About,
    UnicoreJob,
    id_in,
    parse_about,
    parse_details,
    parse_job,
    parse_list,
    words_in,
)
from vsmgate.launchers.unicore_reasons import refusal, refused_code
from vsmgate.launchers.unicore_settings import UnicoreSettings

__all__ = ["LONGEST_TAIL", "UnicoreClient"]

#: Octets of an output that are asked for at most.
LONGEST_TAIL = 1024 * 1024

SESSION = "X-UNICORE-SecuritySession"
PREFERENCES = "X-UNICORE-User-Preferences"
_SESSION_EXPIRED = 432
_JSON = {"Content-Type": "application/json"}


class UnicoreClient:
    """Asks the site at ``url``; fails with `EngineUnreachable` or `EngineRefused`.

    ``authorization`` gives the header's value.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        settings: UnicoreSettings,
        config_dir: Path,
        authorization: Callable[[], str],
    ) -> None:
        self._http = http_client(
            reactor,
            ca_file=config_dir / settings.ca_file if settings.ca_file else None,
            timeout=settings.timeout,
            max_body=2 * LONGEST_TAIL,
        )
        self._base = settings.url.rstrip("/")
        self._authorization = authorization
        self._settings = settings
        self._sessions: dict[str, str] = {}
        self._refused = False

    async def submit(self, description: Mapping[str, Any], user: str) -> str:
        """Give a job to the site, which starts it; return its id."""
        body = msgspec.json.encode(description)
        try:
            answer = await self._ask("POST", "/jobs", user, _JSON, body)
        except BadCredentials as error:
            raise EngineRefused(error.detail, code=error.code) from None
        if answer.status == 201:
            found = id_in(answer.headers.get("location", ""))
            if found is None:
                raise EngineUnreachable("UNICORE took the job, and did not say under which id.")
            return found
        words = words_in(answer.body)
        # A server says 500 to a description that it does not understand, too.
        if words and (answer.status < 500 or (answer.status == 500 and refused_code(words))):
            raise refusal(words)
        raise _unfit(answer)

    async def about(self) -> About:
        """Return what the site says of us, and of itself."""
        answer = await self._ask("GET", "")
        if answer.status != 200:
            raise _unfit(answer)
        return parse_about(answer.body)

    async def find(self, tag: str) -> list[str]:
        """Return the ids of the jobs that have a tag."""
        answer = await self._ask("GET", f"/jobs?tags={quote(tag)}")
        if answer.status != 200:
            raise _unfit(answer)
        return parse_list(answer.body)

    async def job(self, job: str) -> UnicoreJob | None:
        """Return a job's properties; None when the site does not know it."""
        answer = await self._ask("GET", f"/jobs/{job}?fields={','.join(FIELDS)}")
        if answer.status == 404:
            await self.about()  # a Gateway whose site is away says 404 of everything
            return None
        if answer.status != 200:
            raise _unfit(answer)
        return parse_job(answer.body)

    async def details(self, job: str, submitted: str) -> SlurmJob | None:
        """Return what the batch system says of a job; None when that cannot be had."""
        answer = await self._ask("GET", f"/jobs/{job}/details")
        if answer.status != 200:  # it is not in the batch system (yet)
            return None
        return parse_details(answer.body, submitted)

    async def file(self, job: str, path: str, user: str, most: int) -> bytes:
        """Return at most the last ``most`` octets of a file in a job's working directory.

        Empty when there is no such file, or none that can be read.
        """
        where = f"/storages/{job}-uspace/files/{quote(path)}"
        headers = {"Accept": "application/octet-stream"}
        for part in (f"-{most}", f"0-{most - 1}"):
            given = {**headers, "Range": f"bytes={part}"}
            # A job may forbid to read its file: that says nothing of our credential.
            answer = await self._ask("GET", where, user, given, refusals=(401,))
            if answer.status != 416:  # of a file that is shorter, some servers say
                break
        if answer.status in (200, 206):
            return answer.body[-most:]
        if answer.status not in (404, 406, 410, 416):
            self._log.warn(
                "{path} of job {job} cannot be read: HTTP {status} {words}",
                path=path,
                job=job,
                status=answer.status,
                words=words_in(answer.body),
            )
        return b""

    async def abort(self, job: str, user: str) -> None:
        """Ask for the end of a job; nothing for one that has ended, or is unknown."""
        answer = await self._ask("POST", f"/jobs/{job}/actions/abort", user, _JSON, b"{}")
        if answer.status == 204:
            return
        seen = await self.job(job)
        if seen is not None and not seen.ended:
            raise _unfit(answer)

    async def delete(self, job: str, user: str) -> None:
        """Remove a job and its directory."""
        answer = await self._ask("DELETE", f"/jobs/{job}", user)
        if answer.status not in (204, 404, 410):
            raise _unfit(answer)

    async def close(self) -> None:
        """Let go of the connections."""
        await self._http.close()

    async def _ask(
        self,
        method: str,
        path: str,
        user: str = "",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        refusals: Collection[int] = (401, 403),
    ) -> HttpAnswer:
        given = {"Authorization": self._authorization(), **(headers or {})}
        preferences = self._settings.preferences
        if preferences and (user or not self._settings.per_owner):
            pairs = (f"{key}:{value}" for key, value in preferences.items())
            given[PREFERENCES] = ",".join(pairs).replace("{owner}", user)
        session = self._sessions.get(user)
        try:
            if session is not None:
                answer = await self._http.request(
                    method, self._base + path, {**given, SESSION: session}, body
                )
            if session is None or answer.status == _SESSION_EXPIRED:
                self._sessions.pop(user, None)
                answer = await self._http.request(method, self._base + path, given, body)
        except HttpFailed as error:
            why = str(error).rstrip(".")
            raise EngineUnreachable(f"UNICORE cannot be asked now: {why}.") from None
        if answer.status in refusals:
            self._sessions.pop(user, None)
            raise self._bad_credentials(answer)
        self._refused = False
        if found := answer.headers.get(SESSION.lower()):
            self._sessions[user] = found
        return answer

    def _bad_credentials(self, answer: HttpAnswer) -> BadCredentials:
        if not self._refused:  # once, not at every poll
            self._refused = True
            self._log.error(
                "UNICORE refuses the gateway's credential: HTTP {status} {words}; "
                "renew it, or look at how the site maps it",
                status=answer.status,
                words=words_in(answer.body),
            )
        return BadCredentials("UNICORE does not accept the gateway at present; tell its operator.")


def _unfit(answer: HttpAnswer) -> EngineUnreachable:
    words = words_in(answer.body)
    said = f": {words}" if words else " and nothing that can be read"
    return EngineUnreachable(f"UNICORE answered HTTP {answer.status}{said}.")
