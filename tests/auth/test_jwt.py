"""Tokens of an issuer, verified here; criteria S-1, S-5, S-16 and S-17 of the security list."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import jwt
import pytest
import pytest_twisted
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from jwt.algorithms import ECAlgorithm, OKPAlgorithm
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import LogEvent
from zope.interface.verify import verifyObject

from tests.auth.issuer import (
    ISSUER,
    Issuer,
    ec_jwk,
    public_pem,
    raw_token,
    rsa_jwk,
    rsa_key,
)
from vsmgate.auth.jwt_verifier import JwtAuthenticator
from vsmgate.auth.keys import keys_of
from vsmgate.errors import AuthenticatorUnavailable, Unauthenticated
from vsmgate.interfaces import IAuthenticator
from vsmgate.model import Identity, Secret

CERTS = "/certs"


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def sso(issuer: Issuer) -> JwtAuthenticator:
    return issuer.verifier()


def asking(sso: JwtAuthenticator, token: Secret) -> Deferred[Identity]:
    return Deferred.fromCoroutine(sso.authenticate(token))


async def refusal(sso: JwtAuthenticator, token: Secret) -> str:
    with pytest.raises(Unauthenticated) as caught:
        await sso.authenticate(token)
    assert not token.reveal() or token.reveal() not in caught.value.detail
    return caught.value.detail


def hs256_with_the_public_key(issuer: Issuer) -> Secret:
    """Return the classic forgery: the public key as a shared secret."""
    claims = json.loads(base64.urlsafe_b64decode(issuer.token().reveal().split(".")[1] + "=="))
    head_and_body = raw_token({"alg": "HS256", "typ": "JWT", "kid": "k1"}, claims).rpartition(".")
    mac = hmac.new(public_pem("k1"), head_and_body[0].encode(), hashlib.sha256).digest()
    return Secret(f"{head_and_body[0]}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}")


def with_head(issuer: Issuer, **head: object) -> Secret:
    """Return a token whose signature is good, with more in its head."""
    claims = {"iss": ISSUER, "sub": "ada", "aud": "vsmgate", "exp": int(issuer.wall()) + 300}
    return Secret(jwt.encode(claims, rsa_key("k1"), "RS256", {"kid": "k1", **head}))


# -- who it is ---------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_good_token_stands_for_its_subject(issuer: Issuer, sso: JwtAuthenticator) -> None:
    verifyObject(IAuthenticator, sso)
    identity = await sso.authenticate(issuer.token())
    assert identity == Identity("ada", (), int(issuer.wall()) + 300, "sso", identity.issued_at)
    for _ in range(10):
        await sso.authenticate(issuer.token())
    assert issuer.asked == {"/.well-known/openid-configuration": 1, CERTS: 1}


@pytest_twisted.ensureDeferred
async def test_keycloaks_claims(issuer: Issuer) -> None:
    paths = ("groups", "realm_access.roles", 'resource_access."vis.web".roles', "nowhere.at.all")
    sso = issuer.verifier(subject="email", groups=paths)
    claims = {
        "typ": "Bearer",
        "email": "ada@example.org",
        "email_verified": True,
        "preferred_username": "ada",
        "groups": ["/vis", "/vis", 7, "\n"],
        "realm_access": {"roles": ["user", "/vis"]},
        "resource_access": {"vis.web": {"roles": "admin"}},
    }
    identity = await sso.authenticate(issuer.token(**claims))
    assert identity.subject == "ada@example.org"
    assert identity.groups == ("/vis", "user", "admin")


@pytest_twisted.ensureDeferred
async def test_an_unverified_email_opens_nobodys_jobs(issuer: Issuer) -> None:
    sso = issuer.verifier(subject="email")
    token = issuer.token(email="victim@example.org", email_verified=False)
    assert "not verified" in await refusal(sso, token)


@pytest_twisted.ensureDeferred
async def test_elliptic_curves(issuer: Issuer) -> None:
    issuer.jwks = {"keys": [ec_jwk("e1"), rsa_jwk("k1")]}
    sso = issuer.verifier(algorithms=("ES256",))
    assert (await sso.authenticate(issuer.token("e1", "ES256"))).subject == "ada"
    assert "allowed algorithm" in await refusal(sso, issuer.token("k1"))


@pytest_twisted.ensureDeferred
async def test_a_token_without_kid_needs_an_issuer_with_one_key(issuer: Issuer) -> None:
    issuer.jwks = {"keys": [rsa_jwk(None)]}
    assert (await issuer.verifier().authenticate(issuer.token(None))).subject == "ada"
    issuer.jwks = {"keys": [rsa_jwk(None), rsa_jwk("k1")]}
    assert "does not have" in await refusal(issuer.verifier(), issuer.token(None))


@pytest_twisted.ensureDeferred
async def test_the_client_that_a_token_was_made_for(issuer: Issuer) -> None:
    sso = issuer.verifier(audiences=(), clients=("vis-web", "vis-cli"))
    await sso.authenticate(issuer.token(aud="account"))
    await sso.authenticate(issuer.token(azp=None, client_id="vis-cli"))
    for claims in ({"azp": "mail"}, {"azp": None}, {"azp": "mail", "client_id": "vis-web"}):
        assert "client" in await refusal(sso, issuer.token(**claims))


# -- S-1 ---------------------------------------------------------------------------------


BAD = {
    "garbage": lambda _: Secret("garbage"),
    "empty": lambda _: Secret(""),
    "not ascii": lambda _: Secret("ä.ö.ü"),
    "not utf-8": lambda _: Secret("\udcff.\udcff.\udcff"),
    "three empty parts": lambda _: Secret(".."),
    "nested json": lambda _: Secret(
        f"{base64.urlsafe_b64encode(b'[' * 4000).decode().rstrip('=')}.e30.x"
    ),
    "nested claims": lambda _: Secret(
        raw_token({"alg": "RS256"}, {}).split(".")[0]
        + f".{base64.urlsafe_b64encode(b'[' * 4000).decode().rstrip('=')}.x"
    ),
    "expired": lambda i: i.token(exp=int(i.wall()) - 10),
    "wrong aud": lambda i: i.token(aud="other"),
    "no aud": lambda i: i.token(aud=None),
    "aud of a wrong type": lambda i: i.token(aud=None, azp=None, client_id=7),
    "wrong iss": lambda i: i.token(iss="https://evil.example.org"),
    "no iss": lambda i: i.token(iss=None),
    "no exp": lambda i: i.token(exp=None),
    "endless exp": lambda i: Secret(
        raw_token({"alg": "RS256", "kid": "k1"}, {"iss": ISSUER, "sub": "ada", "exp": 10**400})
    ),
    "no sub": lambda i: i.token(sub=None),
    "sub of two lines": lambda i: i.token(sub="ada\nbob"),
    "alg none": lambda i: Secret(
        raw_token(
            {"alg": "none"},
            {"iss": ISSUER, "sub": "ada", "aud": "vsmgate", "exp": int(i.wall()) + 99},
            b"",
        )
    ),
    "a list as alg": lambda _: Secret(raw_token({"alg": ["RS256"], "kid": "k1"}, {"iss": ISSUER})),
    "alg none with a signature": lambda i: Secret(
        raw_token({"alg": "none"}, {"iss": ISSUER, "sub": "ada", "exp": int(i.wall()) + 99})
    ),
    "HS256 with the public key": hs256_with_the_public_key,
    "unknown crit": lambda i: with_head(i, crit=["exp"], exp=1),
    "crit b64": lambda i: with_head(i, crit=["b64"]),
    "nbf in the future": lambda i: i.token(nbf=int(i.wall()) + 31),
    "another issuer's key of that name": lambda i: Secret(
        i.token("k2").reveal().rpartition(".")[0] + ".AAAA"
    ),
    "changed claims": lambda i: Secret(
        ".".join(
            part if n != 1 else i.token(sub="eve").reveal().split(".")[1]
            for n, part in enumerate(i.token().reveal().split("."))
        )
    ),
    "key in the head": lambda i: Secret(
        _signed_with(i, "evil", jwk=rsa_jwk("evil"), jku="https://evil.example.org")
    ),
    "an ID token": lambda i: i.token(typ="ID"),
    "a refresh token": lambda i: i.token(typ="Refresh"),
    "a logout token": lambda i: with_head(i, typ="logout+jwt"),
    "bound to a key": lambda i: i.token(cnf={"jkt": "x"}),
    "too long": lambda i: i.token(padding="x" * 8192),
    "a list as kid": lambda i: Secret(
        raw_token(
            {"alg": "RS256", "kid": ["k1"]},
            {"iss": ISSUER, "sub": "ada", "aud": "vsmgate", "exp": int(i.wall()) + 99},
        )
    ),
}


def _signed_with(issuer: Issuer, name: str, **head: object) -> str:
    claims = {"iss": ISSUER, "sub": "ada", "aud": "vsmgate", "exp": int(issuer.wall()) + 300}
    return jwt.encode(claims, rsa_key(name), "RS256", {"kid": "k1", **head})


@pytest.mark.criterion("S-1")
@pytest.mark.parametrize("which", BAD)
@pytest_twisted.ensureDeferred
async def test_s1_what_stands_for_nobody(
    which: str, issuer: Issuer, sso: JwtAuthenticator, logged: list[LogEvent]
) -> None:
    await sso.authenticate(issuer.token())
    token = BAD[which](issuer)
    await refusal(sso, token)
    # S-5: nothing of it is written anywhere.
    assert not token.reveal() or token.reveal() not in repr(logged)
    await sso.authenticate(issuer.token())


@pytest_twisted.ensureDeferred
async def test_clocks_may_differ_a_little(issuer: Issuer, sso: JwtAuthenticator) -> None:
    await sso.authenticate(issuer.token(exp=int(issuer.wall()) - 9))
    await sso.authenticate(issuer.token(nbf=int(issuer.wall()) + 9))


@pytest.mark.parametrize("which", ["garbage", "wrong iss", "no iss", "expired", "alg none"])
@pytest_twisted.ensureDeferred
async def test_what_is_not_this_issuers_costs_it_nothing(which: str, issuer: Issuer) -> None:
    issuer.mode = "silent"
    await refusal(issuer.verifier(), BAD[which](issuer))
    assert not issuer.asked


# -- S-16 --------------------------------------------------------------------------------


@pytest.mark.criterion("S-16")
@pytest_twisted.ensureDeferred
async def test_s16_a_flood_of_unknown_kids_is_one_question(
    issuer: Issuer, sso: JwtAuthenticator
) -> None:
    await sso.authenticate(issuer.token())
    issuer.clock.advance(60.0)
    good = issuer.token()
    _, body, signature = good.reveal().split(".")
    for number in range(1000):
        issuer.clock.advance(0.01)
        unknown = raw_token({"alg": "RS256", "kid": f"u{number}"}, {}).split(".")[0]
        assert "does not have" in await refusal(sso, Secret(f"{unknown}.{body}.{signature}"))
        if number % 100 == 0:
            await sso.authenticate(good)
    assert issuer.asked[CERTS] == 2


@pytest.mark.criterion("S-16")
@pytest_twisted.ensureDeferred
async def test_s16_keys_serve_while_the_issuer_is_away_for_an_hour(
    issuer: Issuer, sso: JwtAuthenticator
) -> None:
    await sso.authenticate(issuer.token())
    issuer.mode = "down"
    for _ in range(360):
        issuer.clock.advance(10.0)
        assert (await sso.authenticate(issuer.token())).subject == "ada"
    assert 10 <= issuer.asked[CERTS] <= 62  # once a minute at most, but it is asked
    issuer.mode = "up"
    issuer.clock.advance(60.0)
    await sso.authenticate(issuer.token())
    before = issuer.asked[CERTS]
    issuer.clock.advance(599.0)
    await sso.authenticate(issuer.token())
    assert issuer.asked[CERTS] == before


@pytest_twisted.ensureDeferred
async def test_s16_keys_do_not_serve_for_ever(issuer: Issuer, sso: JwtAuthenticator) -> None:
    await sso.authenticate(issuer.token())
    issuer.mode = "down"
    issuer.clock.advance(86399.0)
    await sso.authenticate(issuer.token())
    issuer.clock.advance(1.0)
    with pytest.raises(AuthenticatorUnavailable):
        await sso.authenticate(issuer.token())


@pytest_twisted.ensureDeferred
async def test_s16_a_silent_issuer_holds_up_the_first_only(
    issuer: Issuer, sso: JwtAuthenticator
) -> None:
    await sso.authenticate(issuer.token())
    issuer.mode = "silent"
    issuer.clock.advance(600.0)
    token = issuer.token()
    first = [asking(sso, token) for _ in range(20)]
    assert issuer.asked[CERTS] == 2
    issuer.clock.advance(3.0)
    assert [(await waiting).subject for waiting in first] == ["ada"] * 20
    issuer.clock.advance(100.0)
    assert asking(sso, token).called  # at once, though it is asked again
    assert issuer.asked[CERTS] == 3
    issuer.clock.advance(3.0)


@pytest.mark.criterion("S-16")
@pytest.mark.parametrize("mode", ["down", "silent", "redirect"])
@pytest_twisted.ensureDeferred
async def test_s16_never_fetched_means_unavailable(
    mode: str, issuer: Issuer, sso: JwtAuthenticator
) -> None:
    issuer.mode = mode
    for later, asked in ((0.0, 1), (0.0, 1), (5.0, 2)):
        issuer.clock.advance(later)
        waiting = asking(sso, issuer.token())
        if mode == "silent" and not waiting.called:
            issuer.clock.advance(3.0)
        with pytest.raises(AuthenticatorUnavailable) as caught:
            await waiting
        assert caught.value.retry_after
        assert issuer.asked["/.well-known/openid-configuration"] == asked
    assert not issuer.asked[CERTS]
    issuer.mode = "up"
    issuer.clock.advance(60.0)
    assert (await sso.authenticate(issuer.token())).subject == "ada"


@pytest.mark.parametrize(
    "description",
    [
        {"jwks_uri": "http://sso.example.org/certs"},
        {"jwks_uri": 7},
        {"jwks_uri": None},
        {"issuer": "https://evil.example.org"},
        {"issuer": f"{ISSUER}/"},
    ],
)
@pytest_twisted.ensureDeferred
async def test_s16_a_description_that_is_not_to_be_trusted(
    description: dict[str, Any], issuer: Issuer, sso: JwtAuthenticator
) -> None:
    issuer.description |= description
    with pytest.raises(AuthenticatorUnavailable):
        await sso.authenticate(issuer.token())
    assert not issuer.asked[CERTS]


@pytest.mark.parametrize(
    "jwks", [b"", b"[]", b"{", b"[" * 100_000, {"keys": 7}, {"keys": []}, {"keys": [None, {}]}]
)
@pytest_twisted.ensureDeferred
async def test_s16_a_key_set_that_is_none(jwks: Any, issuer: Issuer, sso: JwtAuthenticator) -> None:
    issuer.jwks = jwks
    with pytest.raises(AuthenticatorUnavailable):
        await sso.authenticate(issuer.token())


@pytest.mark.criterion("S-16")
@pytest_twisted.ensureDeferred
async def test_s16_a_key_set_that_is_too_large(issuer: Issuer, sso: JwtAuthenticator) -> None:
    issuer.jwks = {"keys": [rsa_jwk("k1")], "padding": "x" * 262144}
    with pytest.raises(AuthenticatorUnavailable):
        await sso.authenticate(issuer.token())


@pytest_twisted.ensureDeferred
async def test_all_wait_for_one_answer_and_who_leaves_disturbs_nobody(
    issuer: Issuer, sso: JwtAuthenticator
) -> None:
    issuer.mode = "silent"
    waiting = [asking(sso, issuer.token()) for _ in range(5)]
    waiting[0].cancel()
    with pytest.raises(CancelledError):
        await waiting[0]
    assert sum(issuer.asked.values()) == 1
    request = issuer.silent.pop()
    issuer.mode = "up"
    request.write(json.dumps(issuer.description).encode())
    request.finish()
    issuer.treq.flush()
    assert [(await one).subject for one in waiting[1:]] == ["ada"] * 4


# -- S-17 --------------------------------------------------------------------------------


@pytest.mark.criterion("S-17")
@pytest_twisted.ensureDeferred
async def test_s17_rotation(issuer: Issuer, sso: JwtAuthenticator) -> None:
    await sso.authenticate(issuer.token("k1"))
    issuer.clock.advance(30.0)
    issuer.jwks = {"keys": [rsa_jwk("k2")]}
    assert "does not have" in await refusal(sso, issuer.token("k2"))
    issuer.clock.advance(30.0)  # a minute after the last fetch
    assert (await sso.authenticate(issuer.token("k2"))).subject == "ada"
    assert "does not have" in await refusal(sso, issuer.token("k1"))


@pytest.mark.criterion("S-17")
@pytest_twisted.ensureDeferred
async def test_s17_a_withdrawn_key_is_refused_within_the_caches_time(
    issuer: Issuer, sso: JwtAuthenticator
) -> None:
    await sso.authenticate(issuer.token("k1"))
    issuer.jwks = {"keys": [rsa_jwk("k2")]}
    issuer.clock.advance(599.0)
    await sso.authenticate(issuer.token("k1"))
    issuer.clock.advance(1.0)
    assert "does not have" in await refusal(sso, issuer.token("k1"))


@pytest_twisted.ensureDeferred
async def test_s17_a_new_key_while_the_issuer_is_away_is_no_refusal(
    issuer: Issuer, sso: JwtAuthenticator
) -> None:
    await sso.authenticate(issuer.token("k1"))
    issuer.mode = "down"
    issuer.clock.advance(60.0)
    for _ in range(10):
        with pytest.raises(AuthenticatorUnavailable):
            await sso.authenticate(issuer.token("k2"))
    assert issuer.asked[CERTS] == 2
    await sso.authenticate(issuer.token("k1"))


# -- keys --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "jwk",
    [
        rsa_jwk("k1", use="enc"),
        rsa_jwk("k1", key_ops=["sign"]),
        rsa_jwk("k1", alg="RS512"),
        rsa_jwk("k1", kty="EC"),
        {**rsa_jwk("k1"), "kid": 7},
        rsa_jwk("k1", n="!"),
        rsa_jwk("k1", n=7),
        rsa_jwk("short"),
        {"kty": "oct", "k": "c2VjcmV0", "kid": "k1", "alg": "HS256"},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "k1", "alg": "RS256"},
        "k1",
    ],
)
def test_keys_that_are_not_for_this(jwk: Any) -> None:
    assert keys_of({"keys": [jwk]}, frozenset({"RS256"})) == ()
    found = keys_of({"keys": [jwk, rsa_jwk("k2")]}, frozenset({"RS256"}))
    assert [key.kid for key in found] == ["k2"]


def test_a_curve_has_one_algorithm() -> None:
    every = frozenset({"ES256", "ES384", "ES512", "RS256"})
    jwk = ec_jwk("e1")
    (key,) = keys_of({"keys": [jwk]}, every)
    assert key.algorithms == {"ES256"}
    large = ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP384R1()).public_key(), as_dict=True)
    (key,) = keys_of({"keys": [large]}, every)
    assert key.algorithms == {"ES384"}
    for wrong in ({"alg": "ES384"}, {"crv": "P-192"}, {"crv": []}, {"x": "AA"}):
        assert keys_of({"keys": [{**jwk, **wrong}]}, every) == ()


@pytest_twisted.ensureDeferred
async def test_edwards_curves(issuer: Issuer) -> None:
    private = ed25519.Ed25519PrivateKey.generate()
    issuer.jwks = {"keys": [OKPAlgorithm.to_jwk(private.public_key(), as_dict=True)]}
    claims = {"iss": ISSUER, "sub": "ada", "aud": "vsmgate", "exp": int(issuer.wall()) + 300}
    token = Secret(jwt.encode(claims, private, "EdDSA"))
    assert (await issuer.verifier(algorithms=("EdDSA",)).authenticate(token)).subject == "ada"


def test_a_key_without_algorithm_is_for_those_of_its_type() -> None:
    jwk = rsa_jwk("k1")
    del jwk["alg"]
    (key,) = keys_of({"keys": [jwk]}, frozenset({"RS256", "PS256", "ES256"}))
    assert key.algorithms == {"RS256", "PS256"}
