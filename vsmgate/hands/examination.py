"""Finding out at which step a service is out of reach (`vsmgate.diagnosis` has the steps).

One connection, closed at once, is used for all steps: some renderers keep a place for each.
"""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    ConnectionClosed,
    ConnectionRefusedError,
    DNSLookupError,
    NoRouteError,
    TCPTimedOutError,
)
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.protocol import Factory

from vsmgate.diagnosis import (
    Finding,
    Step,
    answer_finding,
    failure,
    passed,
    question_of,
    shown,
)
from vsmgate.errors import ServiceTlsFailed, TargetDenied
from vsmgate.hands.dialling import Dialler
from vsmgate.hands.probes import Question, request_for
from vsmgate.hands.tls import Shaking, TlsLayer, options_for_service
from vsmgate.model import Endpoint, Secret, Service
from vsmgate.targets import Address, TargetRule

__all__ = ["examine"]

T = TypeVar("T")

#: Seconds for one step. A dropped SYN is sent again after 1 s and after 3 s (RFC 6298), so
#: one that got lost is told apart from a firewall.
PATIENCE = 4.0
#: Seconds for an answer at the most, of a service whose probe may take long.
LONGEST = 10.0

_NO_WAY = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN, errno.ENONET}


class _Failed(Exception):
    """A step found this."""

    def __init__(self, code: str, evidence: str) -> None:
        self.found = Finding(code, evidence)


async def examine(
    dialler: Dialler,
    endpoint: Endpoint,
    rule: TargetRule,
    service: Service,
    secret: Secret | None = None,
) -> Sequence[Step]:
    """Return the steps from ``name`` on, up to the first that failed.

    ``secret``: the job's, for a service that is shown it. Takes `PATIENCE` a step, and for
    the answer `LONGEST`, at the most. A cancel cuts the connection.
    """
    examination = _Examination(dialler, endpoint, rule, service, secret)
    try:
        await examination.walk()
    except _Failed as failed:
        examination.fail(failed.found)
    finally:
        examination.question.hang_up()
    return examination.steps


class _Examination:
    """One walk through the steps."""

    def __init__(
        self,
        dialler: Dialler,
        endpoint: Endpoint,
        rule: TargetRule,
        service: Service,
        secret: Secret | None,
    ) -> None:
        self.steps: list[Step] = []
        self._dialler = dialler
        self._clock = dialler.reactor
        self._endpoint = endpoint
        self._where = f"{endpoint.host}:{endpoint.port}"
        self._rule = rule
        self._service = service
        self._secret = secret if service.secret else None
        self._step, self._begun = "", 0.0
        self.question = Question(request_for(endpoint, service, self._secret))

    async def walk(self) -> None:
        """Take step after step; the first that fails raises `_Failed`."""
        began = self._clock.seconds()
        self._begin("name")
        found = await self._find()
        host = self._endpoint.host
        self._pass(f"{host} has an address" if host != str(found[0]) else f"{host} is an address")
        self._begin("target")
        judged = self._dialler.judge(self._endpoint, found, self._rule)
        allowed = [address for address, why in judged.items() if not why]
        if not allowed:  # what a name stands for inside is not the owner's to know
            raise _Failed("target_denied", f"{host}: {next(iter(judged.values()))}")
        self._pass(f"{', '.join(map(str, allowed))} may be dialled")
        shaking = await self._connect(allowed)
        if shaking is not None:
            self._begin("tls")
            late = _Failed("tls_failed", f"the handshake did not end within {PATIENCE:g} s")
            try:
                await self._within(shaking.done, PATIENCE, late)
            except ServiceTlsFailed as error:
                raise _Failed(error.finding, _open(error.detail)) from None
            self._pass("the certificate is good")
        if asked := question_of(self._service.health):
            self._begin(asked)
            await self._answer(asked, began)

    async def _find(self) -> Sequence[Address]:
        host = self._endpoint.host
        late = _Failed("name_timeout", f"{host} was not found within {PATIENCE:g} s")
        try:
            return await self._within(self._dialler.find(self._endpoint), PATIENCE, late)
        except TargetDenied:
            self._pass("it was not asked for")
            self._begin("target")
            text = shown(host.encode("utf-8", "replace"))
            raise _Failed("target_denied", f"{text!r} is no name of a host") from None
        except DNSLookupError:
            raise _Failed("name_unknown", f"{host} has no address") from None

    async def _connect(self, addresses: Sequence[Address]) -> Shaking | None:
        """Connect; with TLS return what waits for the handshake."""
        tls = self._service.tls
        factory: Any = Factory.forProtocol(lambda: self.question)
        factory.noisy = False
        shaking = None
        self._begin("tcp")
        if tls is not None:
            try:
                options = options_for_service(tls, self._endpoint.host)
            except ServiceTlsFailed as error:
                self._begin("tls")
                raise _Failed(error.finding, _open(error.detail)) from None
            shaking = Shaking(factory)
            factory = TlsLayer(options, True, shaking, self._clock)
        way = self._dialler.way(addresses, self._endpoint.port, PATIENCE)
        silence = _Failed("tcp_filtered", f"{self._where} said nothing within {PATIENCE:g} s")
        try:
            await self._within(way.connect(factory), PATIENCE, silence)
        except (ConnectTimeout, TCPTimedOutError):
            raise silence from None
        except ConnectionRefusedError:
            raise _Failed("tcp_refused", f"{self._where} refused the connection") from None
        except ConnectingCancelledError:
            raise CancelledError from None
        except ConnectError as error:
            no_way = isinstance(error, NoRouteError) or error.osError in _NO_WAY
            words = str(error).rstrip(".")
            code = "tcp_unreachable" if no_way else "tcp_failed"
            raise _Failed(code, f"{self._where}: {words}") from None
        self._pass(f"{self._where} accepted the connection")
        return shaking

    async def _answer(self, asked: str, began: float) -> None:
        """Judge the answer to the question, which is sent once connected."""
        health = self._service.health
        path = health.http or self._service.path
        what = f"GET {path}" if asked == "http" else f"the WebSocket handshake at {path}"
        limit = min(max(PATIENCE, health.timeout), LONGEST)
        late = _Failed("silent", f"{what} was not answered within {limit:g} s")
        try:
            head = await self._within(self.question.answer, limit, late)
        except ConnectionClosed:
            raise _Failed("closed", f"{what}: the connection was closed") from None
        found = answer_finding(asked, head, what, self._secret is not None)
        if found is not None and found.code == "wrong_secret":
            self._pass(found.evidence)
            self._begin("secret")
        if found is not None:
            raise _Failed(*found)
        took = self._clock.seconds() - began
        if took > health.timeout:
            raise _Failed("slow", f"{what} took {took:.1f} s, the probe waits {health.timeout:g} s")
        self._pass(f"{what} was answered {shown(head)}")
        if self._secret is not None:
            self._begin("secret")
            self._pass("it was shown with the request")

    async def _within(self, waiting: Awaitable[T], seconds: float, late: _Failed) -> T:
        bounded = waiting if isinstance(waiting, Deferred) else Deferred.fromCoroutine(waiting)  # type: ignore[arg-type]  # a coroutine, then

        def give_up(_: object, __: float) -> T:
            raise late

        result: T = await bounded.addTimeout(seconds, self._clock, give_up)
        return result

    def _begin(self, step: str) -> None:
        self._step, self._begun = step, self._clock.seconds()

    def _pass(self, evidence: str) -> None:
        self.steps.append(passed(self._step, evidence, self._clock.seconds() - self._begun))

    def fail(self, found: Finding) -> None:
        """End the present step as failed."""
        self.steps.append(failure(self._step, found, self._clock.seconds() - self._begun))


def _open(sentence: str) -> str:
    """Return a sentence to go on after a colon, and to be ended by somebody else."""
    return sentence[:1].lower() + sentence[1:].rstrip(".")
