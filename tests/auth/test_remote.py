"""Tokens that the provider is asked about; criterion S-19 of the security list."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent
from zope.interface.verify import verifyObject

from tests.auth.issuer import ISSUER, Issuer, raw_token, rules_of
from vsmgate.auth.lookup import Bounds, Recent
from vsmgate.auth.remote import Introspection, RemoteAuthenticator, Userinfo
from vsmgate.errors import AuthenticatorUnavailable, Unauthenticated
from vsmgate.interfaces import IAuthenticator, IRevocable
from vsmgate.model import Identity, Secret

USERINFO, INTROSPECT = "/userinfo", "/introspect"
OPAQUE = Secret("opaque-0123456789")


@pytest.fixture
def issuer() -> Issuer:
    found = Issuer()
    found.users[OPAQUE.reveal()] = {"sub": "ada", "email": "ada@example.org", "groups": ["vis"]}
    found.active[OPAQUE.reveal()] = {"active": True, "sub": "ada", "exp": int(found.wall()) + 90}
    return found


def remote(
    issuer: Issuer, question: str = "userinfo", secret: str = "", **rules: Any
) -> RemoteAuthenticator:
    bounds = Bounds(
        positive_ttl=60.0,
        negative_ttl=10.0,
        entries=1000,
        concurrency=4,
        queue=8,
        per_second=50,
    )
    provider = issuer.provider()
    found = rules_of(**{"audiences": (), "groups": ("groups",), **rules})
    ask: Any = Userinfo(provider, found)
    if question == "introspection":
        ask = Introspection(provider, found, "vsm", Secret(secret or issuer.secret[1]))
    return RemoteAuthenticator(provider, ask, found, bounds, issuer.clock, issuer.wall)


def asking(sso: RemoteAuthenticator, token: Secret) -> Deferred[Identity]:
    return Deferred.fromCoroutine(sso.authenticate(token))


@pytest.fixture(params=["userinfo", "introspection"])
def sso(request: pytest.FixtureRequest, issuer: Issuer) -> RemoteAuthenticator:
    return remote(issuer, request.param)


async def refused(sso: RemoteAuthenticator, token: Secret) -> str:
    with pytest.raises(Unauthenticated) as caught:
        await sso.authenticate(token)
    assert token.reveal() not in caught.value.detail
    return caught.value.detail


async def unavailable(sso: RemoteAuthenticator, token: Secret) -> AuthenticatorUnavailable:
    with pytest.raises(AuthenticatorUnavailable) as caught:
        await sso.authenticate(token)
    assert caught.value.retry_after
    return caught.value


def asked(issuer: Issuer) -> int:
    return issuer.asked[USERINFO] + issuer.asked[INTROSPECT]


@pytest_twisted.ensureDeferred
async def test_a_good_token_is_asked_about_once_a_minute(
    issuer: Issuer, sso: RemoteAuthenticator
) -> None:
    verifyObject(IAuthenticator, sso)
    for _ in range(59):
        assert (await sso.authenticate(OPAQUE)).subject == "ada"
        issuer.clock.advance(1.0)
    assert asked(issuer) == 1
    issuer.clock.advance(1.0)
    issuer.users.clear()
    issuer.active.clear()
    await refused(sso, OPAQUE)  # revoked meanwhile
    assert asked(issuer) == 2


@pytest_twisted.ensureDeferred
async def test_a_bad_token_is_asked_about_every_ten_seconds(
    issuer: Issuer, sso: RemoteAuthenticator
) -> None:
    for _ in range(20):
        await refused(sso, Secret("wrong"))
    issuer.clock.advance(9.9)
    await refused(sso, Secret("wrong"))
    assert asked(issuer) == 1
    issuer.clock.advance(0.1)
    issuer.users["wrong"] = {"sub": "bob"}
    issuer.active["wrong"] = {"active": True, "sub": "bob"}
    assert (await sso.authenticate(Secret("wrong"))).subject == "bob"


@pytest_twisted.ensureDeferred
async def test_many_with_one_token_are_one_question(
    issuer: Issuer, sso: RemoteAuthenticator
) -> None:
    await refused(sso, Secret("first"))  # the provider's description is read
    issuer.mode = "silent"
    waiting = [asking(sso, OPAQUE) for _ in range(50)]
    assert asked(issuer) == 2
    issuer.clock.advance(3.0)
    for one in waiting:
        with pytest.raises(AuthenticatorUnavailable):
            await one


@pytest.mark.parametrize("mode", ["down", "redirect", "silent"])
@pytest_twisted.ensureDeferred
async def test_a_provider_that_is_away_is_no_refusal(
    mode: str, issuer: Issuer, sso: RemoteAuthenticator
) -> None:
    await refused(sso, Secret("first"))
    issuer.mode = mode
    waiting = asking(sso, OPAQUE)
    issuer.clock.advance(3.0)
    with pytest.raises(AuthenticatorUnavailable):
        await waiting
    issuer.mode = "up"
    assert (await sso.authenticate(OPAQUE)).subject == "ada"  # at once: nothing was remembered


@pytest_twisted.ensureDeferred
async def test_a_known_token_works_while_the_provider_is_away(
    issuer: Issuer, sso: RemoteAuthenticator
) -> None:
    await sso.authenticate(OPAQUE)
    issuer.mode = "down"
    issuer.clock.advance(59.0)
    await sso.authenticate(OPAQUE)
    issuer.clock.advance(1.0)
    await unavailable(sso, OPAQUE)


@pytest.mark.parametrize("claims", [b"", b"[]", b"eyJ.eyJ.x", b"[" * 100_000])
@pytest_twisted.ensureDeferred
async def test_an_answer_that_is_none(
    claims: Any, issuer: Issuer, sso: RemoteAuthenticator
) -> None:
    issuer.users[OPAQUE.reveal()] = issuer.active[OPAQUE.reveal()] = claims
    await unavailable(sso, OPAQUE)


@pytest_twisted.ensureDeferred
async def test_what_cannot_be_a_token_is_not_asked_about(
    issuer: Issuer, sso: RemoteAuthenticator
) -> None:
    other = raw_token({"alg": "RS256"}, {"iss": "https://other.example.org", "sub": "ada"})
    old = raw_token({"alg": "RS256"}, {"iss": ISSUER, "exp": int(issuer.wall()) - 10})
    for token in ("a b", "x\r\nHost: y", "ä", "\udcff", "x" * 8193, other, old):
        await refused(sso, Secret(token))
    assert not issuer.asked


# -- S-19 --------------------------------------------------------------------------------


@pytest.mark.criterion("S-19")
@pytest_twisted.ensureDeferred
async def test_s19_a_flood_of_bad_tokens(
    issuer: Issuer, sso: RemoteAuthenticator, logged: list[LogEvent]
) -> None:
    await sso.authenticate(OPAQUE)
    del logged[:]
    answers: dict[type, int] = {Unauthenticated: 0, AuthenticatorUnavailable: 0}
    for number in range(5000):  # 500 in a second, for ten seconds
        issuer.clock.advance(0.002)
        try:
            await sso.authenticate(Secret(f"flood-{number}"))
        except (Unauthenticated, AuthenticatorUnavailable) as error:
            answers[type(error)] += 1
        if number % 500 == 0:
            await sso.authenticate(OPAQUE)  # whom the provider knew goes on
    assert asked(issuer) <= 1 + 50 * 11
    assert answers[Unauthenticated] == asked(issuer) - 1
    assert sum(answers.values()) == 5000
    warnings = [event for event in logged if event["log_level"].name == "warn"]
    assert 1 <= len(warnings) <= 2
    issuer.clock.advance(10.0)
    for number in range(51):
        with pytest.raises((Unauthenticated, AuthenticatorUnavailable)):
            await sso.authenticate(Secret(f"again-{number}"))
    assert logged[-1]["count"] > 4000  # the summary: what was not written is counted


@pytest_twisted.ensureDeferred
async def test_s19_a_slow_provider_is_not_asked_more_than_it_should_be(
    issuer: Issuer, sso: RemoteAuthenticator
) -> None:
    await refused(sso, Secret("first"))
    issuer.mode = "silent"
    waiting = [asking(sso, Secret(f"flood-{number}")) for number in range(40)]
    assert asked(issuer) == 1 + 4  # as many at a time as the bounds say
    assert sum(one.called for one in waiting) == 40 - 4 - 8  # the others wait, or are sent away
    for _ in range(3):
        issuer.clock.advance(3.0)
    for one in waiting:
        with pytest.raises(AuthenticatorUnavailable):
            await one
    issuer.mode = "up"
    assert (await sso.authenticate(OPAQUE)).subject == "ada"


def test_what_is_remembered_has_an_end(issuer: Issuer) -> None:
    recent: Recent[str] = Recent(3, issuer.clock)
    for number in range(10):
        recent.put(str(number), "x", 5.0)
    assert [recent.get(str(number)) for number in range(10)] == [None] * 7 + ["x"] * 3
    recent.put("9", "y", 6.0)
    issuer.clock.advance(5.0)
    assert (recent.get("8"), recent.get("9")) == (None, "y")


# -- userinfo ----------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_userinfo_of_a_json_web_token(issuer: Issuer) -> None:
    sso = remote(issuer, subject="email", clients=("vis-web",))
    good, mail, identity = issuer.token(), issuer.token(azp="mail"), issuer.token(typ="ID")
    for token in (good, mail, identity):
        issuer.users[token.reveal()] = {"email": "ada@example.org", "groups": "vis"}
    found = await sso.authenticate(good)
    end = int(issuer.wall()) + 300
    told = (found.issued_at, found.handle)
    assert found == Identity("ada@example.org", ("vis",), end, "sso", *told)
    assert found.handle == good.digest()
    assert "client" in await refused(sso, mail)
    assert "not an access token" in await refused(sso, identity)


@pytest_twisted.ensureDeferred
async def test_userinfo_of_an_opaque_token_tells_no_client(issuer: Issuer) -> None:
    assert (await remote(issuer).authenticate(OPAQUE)).expires_at is None
    assert "client" in await refused(remote(issuer, clients=("vis-web",)), OPAQUE)


@pytest_twisted.ensureDeferred
async def test_a_remembered_answer_does_not_outlive_the_token(issuer: Issuer) -> None:
    sso = remote(issuer)
    token = issuer.token(exp=int(issuer.wall()) + 30)
    issuer.users[token.reveal()] = {"sub": "ada"}
    await sso.authenticate(token)
    issuer.clock.advance(40.0)
    assert "expired" in await refused(sso, token)
    assert issuer.asked[USERINFO] == 1


# -- introspection -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        {"active": False, "sub": "ada"},
        {"active": "true", "sub": "ada"},
        {"sub": "ada"},
        {"active": True},
        {"active": True, "sub": "ada", "exp": 1},
        {"active": True, "sub": "ada", "iss": "https://other.example.org"},
        {"active": True, "sub": "ada", "typ": "Refresh"},
        {"active": True, "sub": "ada", "cnf": {"jkt": "x"}},
        {"active": True, "sub": "ada", "aud": "other"},
    ],
)
@pytest_twisted.ensureDeferred
async def test_introspection_that_says_no(answer: dict[str, Any], issuer: Issuer) -> None:
    sso = remote(issuer, "introspection", audiences=("vsmgate",))
    issuer.active[OPAQUE.reveal()] = {"aud": "vsmgate", **answer}
    await refused(sso, OPAQUE)
    issuer.clock.advance(10.0)
    issuer.active[OPAQUE.reveal()] = {"aud": ["x", "vsmgate"], "active": True, "sub": "ada"}
    assert (await sso.authenticate(OPAQUE)).subject == "ada"


@pytest_twisted.ensureDeferred
async def test_introspection_that_does_not_tell_a_refresh_token(issuer: Issuer) -> None:
    token = issuer.token(token_use="refresh")
    issuer.active[token.reveal()] = {"active": True, "sub": "ada"}
    assert "not an access token" in await refused(remote(issuer, "introspection"), token)


@pytest_twisted.ensureDeferred
async def test_introspection_with_a_wrong_secret_is_our_fault(
    issuer: Issuer, logged: list[LogEvent]
) -> None:
    sso = remote(issuer, "introspection", secret="wr0ng-secret")
    await unavailable(sso, OPAQUE)
    (warning,) = [event for event in logged if event["log_level"].name == "warn"]
    assert "client_id or its secret is not right" in warning["why"]
    assert "wr0ng" not in repr(logged)
    assert OPAQUE.reveal() not in repr(logged)


@pytest_twisted.ensureDeferred
async def test_a_logout_shows_when_it_is_asked_about_again(
    issuer: Issuer, sso: RemoteAuthenticator
) -> None:
    verifyObject(IRevocable, sso)
    identity = await sso.authenticate(OPAQUE)
    assert OPAQUE.reveal() not in repr(identity)
    for _ in range(2):
        issuer.clock.advance(35.0)
        assert await sso.still_valid(identity)
    assert asked(issuer) == 3, "an answer that is kept for others does not count"
    issuer.users.clear()
    issuer.active.clear()
    assert not await sso.still_valid(identity)
    await refused(sso, OPAQUE)  # at once, although it was good a moment ago


@pytest.mark.criterion("S-15")
@pytest_twisted.ensureDeferred
async def test_s15_what_was_taken_back_is_so_for_all_who_ask(
    issuer: Issuer, sso: RemoteAuthenticator
) -> None:
    """The relay, a stream of events, the session of a page, a ticket: one after the other."""
    identity = await sso.authenticate(OPAQUE)
    users, active = dict(issuer.users), dict(issuer.active)
    issuer.users.clear()
    issuer.active.clear()
    asked_before = asked(issuer)
    for seconds in (0.0, 1.0, 9.0, 30.0, 40.0):
        issuer.clock.advance(seconds)
        assert not await sso.still_valid(identity)
    assert asked(issuer) == asked_before + 1
    issuer.users.update(users)
    issuer.active.update(active)
    assert await sso.authenticate(OPAQUE) == identity, "a provider may have been in error"
    assert await sso.still_valid(identity)


@pytest_twisted.ensureDeferred
async def test_nobody_is_thrown_out_because_it_cannot_be_told(
    issuer: Issuer, sso: RemoteAuthenticator
) -> None:
    identity = await sso.authenticate(OPAQUE)
    issuer.users.clear()
    issuer.active.clear()
    assert await sso.still_valid(Identity("ada", authenticator="another", handle=identity.handle))
    assert await sso.still_valid(Identity("ada", authenticator=identity.authenticator))
    issuer.clock.advance(91.0)  # nobody asked: the token is not held any more
    assert await sso.still_valid(identity)
    await refused(sso, OPAQUE)


@pytest_twisted.ensureDeferred
async def test_tokens_are_held_only_as_long_as_somebody_asks(
    issuer: Issuer, sso: RemoteAuthenticator
) -> None:
    await sso.authenticate(OPAQUE)
    assert len(sso._held._kept) == 1
    issuer.clock.advance(91.0)
    issuer.users["next"] = {"sub": "bob"}
    issuer.active["next"] = {"active": True, "sub": "bob"}
    bob = await sso.authenticate(Secret("next"))
    assert list(sso._held._kept) == [bob.handle]
