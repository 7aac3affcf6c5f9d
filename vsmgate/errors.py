"""Everything that can go wrong, with whose fault it is.

Each class carries its stable ``code`` (the API's word), the HTTP ``status`` that says
it before a WebSocket opens, and the WebSocket ``close`` code that says it after. The
mapping happens once, at the edges. ``detail`` may be shown to the user: it names the
value and the remedy, and never holds a secret.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

__all__ = [
    "AuthenticatorUnavailable",
    "BadAnswer",
    "BadCredentials",
    "BadCursor",
    "BadHandshake",
    "BadParameters",
    "BadRequest",
    "ClientError",
    "ConfigError",
    "EngineError",
    "EngineRefused",
    "EngineUnreachable",
    "Forbidden",
    "GatewayError",
    "HeadTimeout",
    "HeadTooLarge",
    "IdempotencyMismatch",
    "JobConflict",
    "JobEnded",
    "JobNotReady",
    "MethodNotAllowed",
    "NotExtendable",
    "NotFound",
    "NoSuchGrant",
    "NoSuchInvitation",
    "NoSuchJob",
    "NoSuchRevocation",
    "NoSuchService",
    "NoSuchUsecase",
    "OriginRefused",
    "Problem",
    "QuotaExceeded",
    "ServiceBusy",
    "ServiceError",
    "ServiceRefused",
    "ServiceTimeout",
    "ServiceTlsFailed",
    "StoreUnavailable",
    "TargetDenied",
    "TooLarge",
    "TooManyFailures",
    "Unauthenticated",
    "UnsupportedMediaType",
    "Unavailable",
    "UpgradeRequired",
    "UriTooLong",
    "ViewUnsupported",
]


class Problem(Struct, frozen=True, omit_defaults=True):
    """One wrong value: a JSON pointer or a dotted key, and what to do about it."""

    pointer: str
    detail: str


class GatewayError(Exception):
    """The base of all; raised itself only for a fault of the gateway's own."""

    status = 500
    close = 1011
    code = "internal"
    title = "Internal error"

    def __init__(
        self,
        detail: str = "",
        *,
        problems: Iterable[Problem] = (),
        retry_after: int | None = None,
    ) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.problems: Sequence[Problem] = tuple(problems)
        self.retry_after = retry_after


class ClientError(GatewayError):
    """The asker's fault; trying the same again does not help."""

    status = 400
    close = 4400
    code = "bad_request"
    title = "Bad request"


class BadRequest(ClientError):
    """Malformed: not HTTP as we take it, not JSON, not the right shape."""


class BadCursor(ClientError):
    """A list's cursor that this gateway did not make."""

    code = "bad_cursor"
    title = "Unknown cursor"


class Unauthenticated(ClientError):
    """No credential, or one that stands for nobody (any more)."""

    status = 401
    close = 4401
    code = "unauthenticated"
    title = "A valid bearer token is required"


class Forbidden(ClientError):
    """Known, and not allowed."""

    status = 403
    close = 4403
    code = "forbidden"
    title = "Not allowed"


class OriginRefused(Forbidden):
    """A browser page of an origin that is not allowed."""

    code = "origin_refused"
    title = "Origin not allowed"


class ViewUnsupported(Forbidden):
    """Looking on cannot be kept from becoming more here, so it is not offered."""

    code = "view_unsupported"
    title = "Not to be viewed only"


class NotFound(ClientError):
    """Nothing at this address."""

    status = 404
    close = 4404
    code = "not_found"
    title = "Nothing here"


class NoSuchJob(NotFound):
    """Unknown, or another user's: nobody can tell which.

    Takes no detail on purpose, so that both answers are the same octets.
    """

    code = "no_such_job"
    title = "No such job"

    def __init__(self) -> None:
        super().__init__("There is no job of yours with this id.")


class NoSuchGrant(NotFound):
    """The job has no grant, or no invitation, of that id."""

    code = "no_such_grant"
    title = "No such grant"


class NoSuchInvitation(NotFound):
    """Unknown, expired, used up, or of a job that is over: nobody can tell which."""

    code = "no_such_invitation"
    title = "No such invitation"

    def __init__(self) -> None:
        super().__init__("The invitation is unknown, used up or over: ask for a new one.")


class NoSuchRevocation(NotFound):
    """Nothing that the subject was given is revoked."""

    code = "no_such_revocation"
    title = "No such revocation"


class NoSuchService(NotFound):
    """The job has no service of that name."""

    code = "no_such_service"
    title = "No such service"


class NoSuchUsecase(ClientError):
    """Unknown use case; ``detail`` lists the known ones."""

    code = "no_such_usecase"
    title = "No such use case"


class BadParameters(ClientError):
    """Parameters that do not fit the use case's schema; ``problems`` has JSON pointers."""

    code = "bad_parameters"
    title = "Parameters do not fit the use case"


class MethodNotAllowed(ClientError):
    """The address exists, the method does not; ``allowed`` lists those that do."""

    status = 405
    code = "method_not_allowed"
    title = "Method not allowed"

    def __init__(self, allowed: Sequence[str]) -> None:
        super().__init__(f"Use {' or '.join(allowed)} here.")
        self.allowed = tuple(allowed)


class JobConflict(ClientError):
    """The job's state does not allow this."""

    status = 409
    code = "conflict"
    title = "Not possible in the job's present state"


class NotExtendable(JobConflict):
    """The job's end cannot be moved (so far)."""

    code = "not_extendable"
    title = "The job cannot be extended"


class IdempotencyMismatch(ClientError):
    """The same ``Idempotency-Key`` with another body."""

    status = 422
    code = "idempotency_mismatch"
    title = "This Idempotency-Key was used for another request"


class JobEnded(ClientError):
    """The job is over; the detail tells its reason."""

    status = 410
    close = 4410
    code = "job_ended"
    title = "The job has ended"


class TooLarge(ClientError):
    """More octets than are taken here."""

    status = 413
    close = 1009
    code = "too_large"
    title = "Too large"


class UriTooLong(ClientError):
    """A request target longer than is taken here."""

    status = 414
    code = "uri_too_long"
    title = "The address is too long"


class HeadTooLarge(ClientError):
    """A request head of more octets, or more headers, than are taken here."""

    status = 431
    code = "head_too_large"
    title = "The request head is too large"


class HeadTimeout(ClientError):
    """The request head did not arrive in time."""

    status = 408
    code = "head_timeout"
    title = "The request head did not arrive in time"


class UnsupportedMediaType(ClientError):
    """A body that does not say that it is JSON."""

    status = 415
    code = "unsupported_media_type"
    title = "The body must be application/json"


class UpgradeRequired(ClientError):
    """Not an upgrade to WebSocket version 13."""

    status = 426
    code = "upgrade_required"
    title = "A WebSocket handshake is required"


class QuotaExceeded(ClientError):
    """As many live jobs, or relays, as are allowed."""

    status = 429
    close = 4429
    code = "quota_exceeded"
    title = "Too many at a time"


class TooManyFailures(ClientError):
    """Too many bad credentials came from one address; a good one may be tried later."""

    status = 429
    close = 4429
    code = "too_many_failures"
    title = "Too many bad credentials"


class ServiceError(GatewayError):
    """The far side's fault."""

    status = 502
    close = 1011
    code = "service_error"
    title = "The service failed"


class ServiceRefused(ServiceError):
    """Nothing listens where the service should be, or it cannot be reached."""

    code = "service_refused"
    title = "The service refused the connection"


class ServiceTlsFailed(ServiceError):
    """The service does not speak TLS as it should, or is not who it should be.

    ``finding``: which of `vsmgate.diagnosis.FINDINGS` it is.
    """

    code = "service_tls"
    title = "The service's TLS cannot be trusted"

    def __init__(self, detail: str = "", *, finding: str = "tls_failed") -> None:
        super().__init__(detail)
        self.finding = finding


class TargetDenied(ServiceError):
    """The service says that it is at an address where the gateway does not connect."""

    code = "target_denied"
    title = "The service's address is not allowed"


class BadHandshake(ServiceError):
    """The service answered the opening handshake with something else than a good 101."""

    code = "bad_handshake"
    title = "The service did not open a WebSocket"


class BadAnswer(ServiceError):
    """The service answered a plain request with something that is not good HTTP."""

    code = "bad_answer"
    title = "The service did not answer in HTTP"


class ServiceTimeout(ServiceError):
    """The service did not answer in time."""

    status = 504
    code = "service_timeout"
    title = "The service did not answer in time"


class ServiceBusy(QuotaExceeded):
    """As many relays to the service as it can serve."""

    code = "service_busy"
    title = "The service serves as many clients as it can"


class Unavailable(GatewayError):
    """Not now; trying again later helps."""

    status = 503
    close = 1013
    code = "unavailable"
    title = "Temporarily unavailable"

    def __init__(
        self,
        detail: str = "",
        *,
        problems: Iterable[Problem] = (),
        retry_after: int | None = 5,
    ) -> None:
        super().__init__(detail, problems=problems, retry_after=retry_after)


class JobNotReady(Unavailable):
    """The job has not come so far; the detail tells its state."""

    code = "job_not_ready"
    title = "The job is not ready yet"


class AuthenticatorUnavailable(Unavailable):
    """Whether the credential is good cannot be found out now."""

    code = "authenticator_unavailable"
    title = "Credentials cannot be checked now"


class StoreUnavailable(Unavailable):
    """The job store cannot be read or written (disk full, read-only, database away)."""

    code = "store_unavailable"
    title = "The job store is unavailable"


class EngineError(Unavailable):
    """Of an engine; launchers raise one of the two below."""

    code = "engine_error"
    title = "The engine failed"


class EngineUnreachable(EngineError):
    """The engine cannot be asked now; nothing is known to have changed. Worth a retry."""

    code = "engine_unreachable"
    title = "The engine is unreachable"


class BadCredentials(EngineUnreachable):
    """The engine does not take the gateway's credentials (any more).

    A launcher's ``submit`` fails with `EngineRefused` instead, of the same code.
    """

    code = "bad_credentials"
    title = "The engine does not take the gateway's credentials"


class EngineRefused(EngineError):
    """The engine understood and will never do it; ``code`` may be a finer reason code."""

    code = "engine_refused"
    title = "The engine refused"

    def __init__(self, detail: str = "", *, code: str = "engine_refused", native: str = "") -> None:
        super().__init__(detail, retry_after=None)  # the same again is refused again
        self.code = code
        self.native = native


class ConfigError(Exception):
    """A configuration that cannot be used; ``problems`` lists every error at once.

    ``also``: the errors of other files that were read together with ``source``.
    """

    def __init__(
        self, source: str, problems: Sequence[Problem], also: Sequence[ConfigError] = ()
    ) -> None:
        self.source = source
        self.problems = tuple(problems)
        self.also = tuple(also)
        lines = [": ".join(filter(None, (source, p.pointer, p.detail))) for p in self.problems]
        super().__init__("\n".join([*lines, *map(str, also)]))
