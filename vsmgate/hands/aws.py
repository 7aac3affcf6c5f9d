"""Questions to AWS: one signed POST of JSON each, over treq.

botocore finds the credentials (environment, profile, the role of a machine, task or pod) and
signs; it does no other I/O here. Finding and renewing credentials may ask a metadata service
and so may block: that runs in a thread of a bounded few. The protocol is AWS JSON 1.1.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import DeferredLock
from twisted.internet.interfaces import IReactorThreads, IReactorTime

from vsmgate.hands.http_client import HttpAnswer, http_client
from vsmgate.hands.threads import Threads

__all__ = ["AwsClient", "CredentialsFailed", "profile_exists"]

#: Seconds for which credentials are used before botocore is asked for them again; it renews
#: those that expire ten minutes before they do.
_KEEP = 60.0


class CredentialsFailed(Exception):
    """There are no credentials; says why, for operators: it may name profiles and files."""


def profile_exists(profile: str) -> bool:
    """Return whether AWS's files have that profile; reads them."""
    from botocore.exceptions import BotoCoreError
    from botocore.session import Session

    try:
        return profile in Session().available_profiles
    except BotoCoreError:  # a file that is none
        return False


class AwsClient:
    """Asks AWS in one region, as one principal. ``profile``: of AWS's files; None: the usual."""

    def __init__(
        self,
        reactor: Any,
        *,
        region: str,
        profile: str | None = None,
        ca_file: Path | None = None,
        timeout: float = 10.0,
        max_body: int = 8 * 1024 * 1024,
    ) -> None:
        self._http = http_client(reactor, ca_file=ca_file, timeout=timeout, max_body=max_body)
        self._clock = IReactorTime(reactor)
        self._threads = Threads(IReactorThreads(reactor))
        self._region = region
        self._profile = profile
        self._looking = DeferredLock()
        self._source: Any = None
        self._frozen: Any = None
        self._good_until = 0.0

    async def ask(
        self, url: str, service: str, target: str, body: bytes, *, again: bool = False
    ) -> HttpAnswer:
        """POST ``body`` for ``target`` (``X-Amz-Target``), signed for ``service``.

        ``again``: it may be sent twice. Fails with `HttpFailed` and `CredentialsFailed`.
        """
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest

        headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": target}
        request = AWSRequest("POST", url, data=body, headers=headers)
        SigV4Auth(await self._credentials(), service, self._region).add_auth(request)
        signed = {name: str(value) for name, value in request.headers.items()}
        return await self._http.request("POST", url, signed, body, again=again)

    async def close(self) -> None:
        """Close kept connections."""
        await self._http.close()

    def forget_credentials(self) -> None:
        """Read everything again at the next question: these were refused."""
        self._source = self._frozen = None

    async def _credentials(self) -> Any:
        async with self._looking:  # those who ask meanwhile wait for the same answer
            if self._frozen is None or self._clock.seconds() >= self._good_until:
                try:
                    self._frozen = await self._threads.run(self._look_up())
                except BlockingIOError as error:
                    raise CredentialsFailed(str(error)) from None
                self._good_until = self._clock.seconds() + _KEEP
            return self._frozen

    def _look_up(self) -> Callable[[], Any]:
        def look() -> Any:
            from botocore.exceptions import BotoCoreError
            from botocore.session import Session

            try:
                source = self._source or Session(profile=self._profile).get_credentials()
                if source is None:
                    raise CredentialsFailed("no credentials are configured for the gateway")
                self._source = source
                return source.get_frozen_credentials()
            except (BotoCoreError, OSError, ValueError) as error:
                raise CredentialsFailed(" ".join(str(error).split())[:500]) from None

        return look
