"""Claims: what is read of them, and what is not believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.auth.issuer import raw_token, rules_of
from vsmgate.auth.claims import Rules, claim, json_object, path_of, peek, plausible
from vsmgate.errors import Unauthenticated


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("sub", ("sub",)),
        ("realm_access.roles", ("realm_access", "roles")),
        (
            'resource_access."vis.example.org".roles',
            ("resource_access", "vis.example.org", "roles"),
        ),
        ('"https://example.org/groups"', ("https://example.org/groups",)),
        ("vis-web.r:o", ("vis-web", "r:o")),
    ],
)
def test_paths(text: str, path: tuple[str, ...]) -> None:
    assert path_of(text) == path


@pytest.mark.parametrize("text", ["", ".", "a.", ".a", "a..b", '"a', 'a"b"', '"a"b', '""'])
def test_what_is_no_path(text: str) -> None:
    with pytest.raises(ValueError, match="write claims as"):
        path_of(text)


@given(st.lists(st.text(st.characters(exclude_characters='"'), min_size=1), min_size=1))
def test_every_path_can_be_written(parts: list[str]) -> None:
    assert path_of(".".join(f'"{part}"' for part in parts)) == tuple(parts)


def test_a_path_that_leads_nowhere() -> None:
    claims = {"a": {"b": ["c"]}, "d": "e"}
    assert claim(claims, ("a", "b")) == ["c"]
    for path in (("x",), ("a", "x"), ("a", "b", "c"), ("d", "e"), ("a", "b", "0")):
        assert claim(claims, path) is None


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_json_that_is_no_object(octets: bytes) -> None:
    found = json_object(octets)
    assert found is None or isinstance(found, dict)


@given(st.text(max_size=100) | st.just(raw_token({}, {"a": 1})))
def test_peeking_at_anything(token: str) -> None:
    said = peek(token)
    assert said is None or isinstance(said, dict)


def test_peeking() -> None:
    assert peek(raw_token({"alg": "x"}, {"iss": "y"})) == {"iss": "y"}
    assert peek("opaque") is None
    assert peek(raw_token([], {})) is None


def test_what_may_be_a_token() -> None:
    assert plausible("abc.-_~+/==")
    for token in ("", "a b", "a\r\nb", "ä", "=", "x" * 8193, "a=b"):
        assert not plausible(token)


@pytest.mark.parametrize("exp", ["1800000000", True, [], {}, float("inf"), 10**400, 1.8e12])
def test_times_that_are_none(exp: object) -> None:
    with pytest.raises(Unauthenticated, match="not a time"):
        rules_of().check_time({"exp": exp}, 0.0)


def test_times() -> None:
    rules = rules_of()
    rules.check_time({"exp": 100.5, "nbf": 50}, 110.0)
    rules.check_time({"exp": 100, "nbf": 50}, 40.0)
    for now in (110.5, 39.9):
        with pytest.raises(Unauthenticated):
            rules.check_time({"exp": 100.5, "nbf": 50}, now)


@pytest.mark.parametrize("subject", [None, "", 7, ["ada"], "a\nb", "a\x00", "x" * 257, " a"])
def test_subjects_that_are_none(subject: object) -> None:
    with pytest.raises(Unauthenticated, match="that can be used"):
        rules_of().identity({"sub": subject}, None)


def test_groups_have_an_end() -> None:
    identity = rules_of(groups=("g",)).identity(
        {"sub": "ada", "g": list(map(str, range(5000)))}, 1.0
    )
    assert len(identity.groups) == 1000
    assert identity.expires_at == 1.0


@pytest.mark.parametrize(
    "hidden", ["\n", "\x9b", "\x85", "\u2028", "\u202e", "\u2066", "\ud800", "\u200b"]
)
def test_a_name_that_would_deceive_its_readers_is_nobodys(hidden: str) -> None:
    rules = Rules(("sub",), (("groups",),), frozenset(), frozenset(), 10.0, "sso")
    with pytest.raises(Unauthenticated):
        rules.identity({"sub": f"ada{hidden}bob"}, None)
    groups = {"sub": "zoë 李", "groups": [f"vis{hidden}", "vis", "vis ", " "]}
    assert rules.identity(groups, None).groups == ("vis",)
