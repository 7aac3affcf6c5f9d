"""An OpenID provider in memory: it does as told, and counts what it is asked."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Any
from urllib.parse import unquote_plus

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from treq.testing import StubTreq
from twisted.internet.task import Clock
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from vsmgate.auth.claims import Rules, path_of
from vsmgate.auth.jwt_verifier import JwtAuthenticator
from vsmgate.auth.keys import KeySet
from vsmgate.auth.provider import Provider
from vsmgate.hands.http_client import HttpClient
from vsmgate.model import Secret

ISSUER = "https://sso.example.org/realms/vis"
NOW = 1_800_000_000.0


@cache
def rsa_key(name: str) -> rsa.RSAPrivateKey:
    """Return a key; the same for the same name."""
    return rsa.generate_private_key(65537, 1024 if name == "short" else 2048)


@cache
def ec_key(name: str) -> ec.EllipticCurvePrivateKey:
    """Return a key; the same for the same name."""
    return ec.generate_private_key(ec.SECP256R1())


def public_pem(name: str) -> bytes:
    """Return an RSA key's public half, as people publish it."""
    return (
        rsa_key(name)
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def rsa_jwk(kid: str | None, **more: object) -> dict[str, Any]:
    """Return the JWK of the RSA key that is called ``kid``."""
    jwk = RSAAlgorithm.to_jwk(rsa_key(kid or "nameless").public_key(), as_dict=True)
    named = {} if kid is None else {"kid": kid}
    return {**jwk, "use": "sig", "alg": "RS256", **named, **more}


def ec_jwk(kid: str) -> dict[str, Any]:
    """Return the JWK of the EC key that is called ``kid``."""
    return {**ECAlgorithm.to_jwk(ec_key(kid).public_key(), as_dict=True), "kid": kid}


def raw_token(head: object, claims: object, signature: bytes = b"x") -> str:
    """Return the three segments of a token, whatever they say."""
    parts = [json.dumps(head).encode(), json.dumps(claims).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


class Issuer(Resource):
    """The provider's own state.

    ``asked``: path -> how often. ``mode``: "up", "down" (500), "silent" (no answer),
    "redirect". ``users``: token -> userinfo; ``active``: token -> introspection.
    """

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.clock.advance(1000.0)
        self.wall_offset = NOW - self.clock.seconds()
        self.asked: Counter[str] = Counter()
        self.mode = "up"
        self.jwks: Any = {"keys": [rsa_jwk("k1")]}
        self.description: dict[str, Any] = {
            "issuer": ISSUER,
            "jwks_uri": f"{ISSUER}/certs",
            "userinfo_endpoint": f"{ISSUER}/userinfo",
            "introspection_endpoint": f"{ISSUER}/introspect",
        }
        self.users: dict[str, Any] = {}
        self.active: dict[str, Any] = {}
        self.secret = ("vsm", "s3cret/+ %")
        self.silent: list[Request] = []
        self.treq = StubTreq(self)
        self.http = HttpClient(self.treq, self.clock)

    def wall(self) -> float:
        return self.clock.seconds() + self.wall_offset

    def provider(self, **urls: str) -> Provider:
        return Provider(self.http, self.clock, ISSUER, allow_http=False, urls=urls)

    def token(self, kid: str | None = "k1", alg: str = "RS256", **claims: Any) -> Secret:
        """Return a token of ada's; claims that are None are left out."""
        payload = {
            "iss": ISSUER,
            "sub": "ada",
            "aud": ["account", "vsmgate"],
            "azp": "vis-web",
            "exp": int(self.wall()) + 300,
            **claims,
        }
        payload = {name: value for name, value in payload.items() if value is not None}
        key: Any = ec_key(kid or "") if alg.startswith("ES") else rsa_key(kid or "nameless")
        headers = {} if kid is None else {"kid": kid}
        return Secret(jwt.encode(payload, key, alg, headers))

    def verifier(
        self, *, algorithms: tuple[str, ...] = ("RS256",), subject: str = "sub", **rules: Any
    ) -> JwtAuthenticator:
        keys = KeySet(
            self.provider(),
            algorithms,
            self.clock,
            cache_ttl=600.0,
            refetch_interval=60.0,
            stale_ttl=86400.0,
        )
        return JwtAuthenticator(
            ISSUER, algorithms, keys, rules_of(subject=subject, **rules), self.wall
        )

    def render(self, request: Request) -> Any:
        path = request.path.decode().removeprefix("/realms/vis")
        self.asked[path] += 1
        if self.mode == "silent":
            self.silent.append(request)
            return NOT_DONE_YET
        if self.mode == "redirect":
            request.redirect(b"https://elsewhere.example.org/certs")
            return b""
        if self.mode == "down":
            request.setResponseCode(500)
            return b"{}"
        answers: dict[str, Callable[[Request], Any]] = {
            "/.well-known/openid-configuration": lambda _: self.description,
            "/certs": lambda _: self.jwks,
            "/userinfo": self._userinfo,
            "/introspect": self._introspect,
        }
        answer = answers[path](request)
        return answer if isinstance(answer, bytes) else json.dumps(answer).encode()

    def _userinfo(self, request: Request) -> Any:
        token = (request.getHeader("Authorization") or "").removeprefix("Bearer ")
        if token not in self.users:
            request.setResponseCode(401)
            return b""
        return self.users[token]

    def _introspect(self, request: Request) -> Any:
        pair = (
            unquote_plus(request.getUser().decode()),
            unquote_plus(request.getPassword().decode()),
        )
        if pair != self.secret:
            request.setResponseCode(401)
            return {"error": "invalid_client"}
        token = request.args[b"token"][0].decode()
        return self.active.get(token, {"active": False})


def rules_of(
    *,
    subject: str = "sub",
    groups: tuple[str, ...] = (),
    audiences: tuple[str, ...] = ("vsmgate",),
    clients: tuple[str, ...] = (),
) -> Rules:
    return Rules(
        path_of(subject),
        tuple(map(path_of, groups)),
        frozenset(audiences),
        frozenset(clients),
        10.0,
        "sso",
    )
