"""What of a client's request crosses to the service, and what the gateway adds."""

from __future__ import annotations

from urllib.parse import quote

from vsmgate.config import RelayConfig
from vsmgate.credentials import Claim
from vsmgate.hands.autobahn_handshake import ServiceHandshake
from vsmgate.heads import RequestHead
from vsmgate.relay.desk import Target
from vsmgate.relay.journal import Passage
from vsmgate.upgrades import Upgrade
from vsmgate.viewing import reads_messages

__all__ = [
    "gateway_headers",
    "offered_extensions",
    "service_handshake",
    "service_headers",
    "service_target",
]

# Nothing else crosses. User-Agent goes beside them: Autobahn writes it by itself.
_CROSSING = ("Accept-Language",)


def service_handshake(
    config: RelayConfig,
    passage: Passage,
    head: RequestHead,
    claim: Claim,
    target: Target,
    path: str,
    extensions: str,
    public: str,
) -> ServiceHandshake:
    """Return the handshake with the service for a client that was admitted to ``target``.

    ``path``: at which the service is asked. ``extensions``: the client's offers of
    compression, verbatim. ``public``: for a service with pages of its own, their path.
    """
    headers = gateway_headers(config, passage, head, target, public)
    # No use case declares which queries are harmless, so who may only look sends none.
    query = "" if target.view_only else claim.query
    if target.spec.http and claim.cookies:
        headers["Cookie"] = claim.cookies  # its pages' own
    return ServiceHandshake(
        host=target.endpoint.host,
        port=target.endpoint.port,
        target=service_target(path, query),
        headers=headers,
        user_agent=crossing_value(head, "User-Agent"),
        protocols=claim.protocols,
        protocols_text=claim.protocols_text,
        extensions=extensions,
    )


def offered_extensions(upgrade: Upgrade | None, target: Target) -> str:
    """Return the client's offers of compression, verbatim; none where messages must be read."""
    if upgrade is None or (target.view_only and reads_messages(target.spec)):
        return ""
    return upgrade.extensions


def service_target(path: str, query: str) -> str:
    """Return the service's ``path`` with the client's ``query`` (without credentials)."""
    if not query:
        return path
    return f"{path}{'&' if '?' in path else '?'}{query}"


def gateway_headers(
    config: RelayConfig, passage: Passage, head: RequestHead, target: Target, public: str
) -> dict[str, str]:
    """Return `service_headers`; with ``public`` the service is told where its pages are."""
    headers = service_headers(
        head,
        peer=passage.peer,
        tls=config.tls_public if passage.tls is None else passage.tls,
        job_id=target.job.id,
        subject=target.identity.subject,
        request_id=passage.request_id,
    )
    if target.spec.http:
        headers["X-Forwarded-Prefix"] = public
    if target.secret is not None:
        headers["Authorization"] = f"Bearer {target.secret.reveal()}"
    return headers


def service_headers(
    head: RequestHead, *, peer: str, tls: bool, job_id: str, subject: str, request_id: str
) -> dict[str, str]:
    """Return the headers for the service, apart from those of the handshake itself.

    ``peer``: the client's address as its socket, or a trusted proxy, has it; what the client
    says of itself in forwarding headers is not believed. ``subject`` is percent-encoded.
    """
    crossing = {name: value for name in _CROSSING if (value := crossing_value(head, name))}
    return {
        **crossing,
        "X-Forwarded-For": peer,
        "X-Forwarded-Proto": "https" if tls else "http",
        "X-Forwarded-Host": head.host,
        "X-Vsmgate-Job": job_id,
        "X-Vsmgate-User": quote(subject, safe="@:+/."),
        "X-Request-Id": request_id,
    }


def crossing_value(head: RequestHead, name: str) -> str:
    """Return the value of a header that may cross, unless ``Connection`` names it.

    What ``Connection`` names is for this hop only (RFC 9110 section 7.6.1).
    """
    if head.has("Connection", name):
        return ""
    return ", ".join(value for value in head.all(name) if value.isascii())
