"""``bin/bench auth``: what it costs to find out whose token it is.

In one process, without HTTP around it: a static token, a cached-key JWT (RS256, and
ES256), and a userinfo answer that is remembered. The JWT shall cost at most 0.3 ms.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from vsmgate.auth.claims import Rules
from vsmgate.auth.jwt_verifier import JwtAuthenticator
from vsmgate.auth.keys import KeySet
from vsmgate.auth.lookup import Bounds
from vsmgate.auth.provider import Provider
from vsmgate.auth.remote import RemoteAuthenticator
from vsmgate.auth.static import StaticAuthenticator
from vsmgate.auth.tokens import Token, add_token
from vsmgate.model import Identity, Secret

ISSUER = "https://sso.example.org/realms/vis"
TARGET = 0.3
RULES = Rules(
    ("preferred_username",),
    (("groups",), ("realm_access", "roles")),
    frozenset({"vsmgate"}),
    frozenset({"vis-portal"}),
    10.0,
    "sso",
)


class Known(Provider):
    """A provider whose keys are at hand."""

    def __init__(self, jwks: Mapping[str, Any]) -> None:
        self.issuer = ISSUER
        self._jwks = jwks

    async def json(self, name: str) -> Mapping[str, Any]:
        """Return the keys."""
        return self._jwks


class Answered:
    """A userinfo endpoint that knows everybody."""

    async def ask(self, credential: Secret, now: float) -> Identity:
        """Return ada."""
        return Identity("ada", ("vis",), now + 3600.0, "sso")


@click.command()
@click.option("--calls", default=2000, help="Calls in each of five rounds.")
def auth(calls: int) -> None:
    """Measure the authenticators."""
    with tempfile.TemporaryDirectory() as folder:
        for name, (authenticator, token) in _cases(Path(folder)).items():
            rounds = [_milliseconds(authenticator, token, calls) for _ in range(5)]
            print(f"{name:28} {statistics.median(rounds):.4f} ms (of {TARGET} for a JWT)")


def _cases(folder: Path) -> dict[str, tuple[Any, Secret]]:
    clock = Clock()
    static = Secret("a-static-token-of-forty-three-characters-xx")
    add_token(folder / "tokens.toml", Token(static.digest(), "ada", ("vis",)))
    rsa_key = rsa.generate_private_key(65537, 2048)
    ec_key = ec.generate_private_key(ec.SECP256R1())
    rs256 = {**RSAAlgorithm.to_jwk(rsa_key.public_key(), as_dict=True), "kid": "r"}
    es256 = {**ECAlgorithm.to_jwk(ec_key.public_key(), as_dict=True), "kid": "e"}
    bounds = Bounds(60.0, 10.0, 10000, 8, 64, 50)
    remote = RemoteAuthenticator(Known({}), Answered(), RULES, bounds, clock, time.time)
    return {
        "static": (StaticAuthenticator(folder / "tokens.toml", time.time, "s"), static),
        "jwt, RS256, cached key": (_verifier("RS256", rs256), _token("RS256", "r", rsa_key)),
        "jwt, ES256, cached key": (_verifier("ES256", es256), _token("ES256", "e", ec_key)),
        "userinfo, remembered": (remote, _token("RS256", "r", rsa_key)),
    }


def _verifier(algorithm: str, jwk: Mapping[str, Any]) -> JwtAuthenticator:
    keys = KeySet(
        Known({"keys": [jwk]}),
        [algorithm],
        Clock(),
        cache_ttl=600.0,
        refetch_interval=60.0,
        stale_ttl=86400.0,
    )
    return JwtAuthenticator(ISSUER, [algorithm], keys, RULES, time.time)


def _token(algorithm: str, kid: str, key: Any) -> Secret:
    claims = {
        "iss": ISSUER,
        "sub": "f1e2d3c4-0000-4000-8000-123456789abc",
        "aud": ["account", "vsmgate"],
        "azp": "vis-portal",
        "typ": "Bearer",
        "exp": int(time.time()) + 3600,
        "iat": int(time.time()),
        "preferred_username": "ada",
        "email": "ada@example.org",
        "email_verified": True,
        "groups": [f"/group-{number}" for number in range(10)],
        "realm_access": {"roles": [f"role-{number}" for number in range(10)]},
    }
    return Secret(jwt.encode(claims, key, algorithm, {"kid": kid}))


def _milliseconds(authenticator: Any, token: Secret, calls: int) -> float:
    done: list[Identity] = []
    began = time.perf_counter()
    for _ in range(calls):
        Deferred.fromCoroutine(authenticator.authenticate(token)).addCallback(done.append)
    spent = time.perf_counter() - began
    assert len(done) == calls, "every call ends at once"
    return spent / calls * 1000.0
