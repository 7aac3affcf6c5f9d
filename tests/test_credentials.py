from __future__ import annotations

import base64

import pytest

from vsmgate.credentials import BEARER_PREFIX, OWN_PROTOCOL, Claim, claim_of, redact
from vsmgate.errors import BadRequest, GatewayError, Unauthenticated
from vsmgate.heads import RequestHead

SECRET = "s3cret-t0ken.of~mine"
BEARER = BEARER_PREFIX + base64.urlsafe_b64encode(SECRET.encode()).decode().rstrip("=")


def claim(target: str = "/j/s", protocols: str = "", **headers: str) -> Claim:
    pairs = [("Host", "x"), *headers.items()]
    if protocols:
        pairs.append(("Sec-WebSocket-Protocol", protocols))
    head = RequestHead(method="GET", target=target, headers=tuple(pairs))
    return claim_of(head, head.tokens("Sec-WebSocket-Protocol"))


def shown(made: Claim) -> tuple[str, str] | None:
    return made.credential and (made.credential.kind, made.credential.secret.reveal())


def test_none() -> None:
    made = claim("/j/s?view=1")
    assert (made.credential, made.query) == (None, "view=1")


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER   "])
def test_header(scheme: str) -> None:
    assert shown(claim(Authorization=scheme + SECRET)) == ("bearer", SECRET)


def test_subprotocol() -> None:
    made = claim(protocols=f"a, {BEARER}, {OWN_PROTOCOL}, b")
    assert shown(made) == ("bearer", SECRET)
    assert made.protocols == ("a", "b")
    assert made.protocols_text == "a, b"
    assert made.own_protocol


def test_query() -> None:
    assert shown(claim("/j/s?ticket=abc")) == ("ticket", "abc")
    assert shown(claim("/j/s?token=a%2Bb+c%3D")) == ("bearer", "a+b+c=")


def test_order() -> None:
    target = "/j/s?token=t1&ticket=t2"
    assert shown(claim(target, BEARER, Authorization="Bearer t4")) == ("bearer", "t4")
    assert shown(claim(target, BEARER)) == ("bearer", SECRET)
    assert shown(claim(target)) == ("ticket", "t2")


def test_all_are_stripped() -> None:
    made = claim("/j/s?token=t1&x=%61+b&ticket=t2&&y", f"{BEARER},a", Authorization="Bearer t4")
    assert made.query == "x=%61+b&&y"
    assert made.protocols == ("a",)


def test_encoded_names_are_stripped() -> None:
    made = claim("/j/s?%74oken=t1&t%69cket=t2&Token=kept")
    assert made.query == "Token=kept"
    assert shown(made) == ("ticket", "t2")


def test_untouched_protocols_stay_verbatim() -> None:
    assert claim(protocols="a,b ,  c").protocols_text == "a,b ,  c"


def test_empty_values_are_none() -> None:
    assert claim("/j/s?token=&ticket").credential is None


@pytest.mark.parametrize(
    ("target", "protocols", "authorization", "error"),
    [
        ("/j/s?token=a&token=b", "", "", BadRequest),
        ("/j/s?token=a&%74oken=b", "", "", BadRequest),
        ("/j/s?ticket=&ticket=", "", "", BadRequest),
        ("/j/s", f"{BEARER}, {BEARER}x", "", BadRequest),
        ("/j/s", BEARER_PREFIX, "", Unauthenticated),
        ("/j/s", BEARER_PREFIX + "a", "", Unauthenticated),
        ("/j/s", BEARER_PREFIX + "!!!!", "", Unauthenticated),
        ("/j/s", BEARER_PREFIX + "_____w", "", Unauthenticated),
        ("/j/s", "", "Basic dTpw", Unauthenticated),
        ("/j/s", "", "Bearer", Unauthenticated),
        ("/j/s", "", "Bearer a b", Unauthenticated),
    ],
)
def test_refused(
    target: str, protocols: str, authorization: str, error: type[GatewayError]
) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    with pytest.raises(error):
        claim(target, protocols, **headers)


def test_nothing_shows_a_secret() -> None:
    for made in (claim(f"/?token={SECRET}"), claim(protocols=BEARER)):
        assert SECRET not in repr(made)
        assert BEARER not in repr(made)
    broken = BEARER_PREFIX + "@" + SECRET
    with pytest.raises(GatewayError) as caught:
        claim(protocols=broken)
    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in f"{error!r}"
        error = error.__cause__


def test_redaction() -> None:
    assert redact("/j/s?a=1&token=x&t%69cket=y&token") == "/j/s?a=1&token=...&t%69cket=...&token..."
    assert redact("/a\nb\x1b[0m\u202e") == "/a\\nb\\x1b[0m\\u202e"
    assert len(redact("/" + "a" * 9999)) == 200
