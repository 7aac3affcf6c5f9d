"""Rules of access: who may start what."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from vsmgate import config_file
from vsmgate.errors import ConfigError
from vsmgate.model import Identity, Service, Usecase
from vsmgate.permissions import AccessConfig, Permissions, Rule, wrong_entries

WORDS = st.sampled_from(["ada", "bob", "vis", "hpc", "group:vis"])
ENTRIES = st.lists(WORDS | WORDS.map("group:{}".format)).map(tuple)
IDENTITIES = st.builds(Identity, WORDS, st.lists(WORDS).map(tuple))


def usecase(name: str = "demo", launcher: str = "local") -> Usecase:
    return Usecase(name, launcher, {"renderer": Service()}, {})


def meant(entries: tuple[str, ...], identity: Identity) -> bool:
    """The rule, said another way."""
    groups = {f"group:{group}" for group in identity.groups}
    subject = set() if identity.subject.startswith("group:") else {identity.subject}
    return not (groups | subject).isdisjoint(entries)


@given(ENTRIES, IDENTITIES)
def test_an_entry_is_a_subject_or_a_group_and_never_both(
    entries: tuple[str, ...], identity: Identity
) -> None:
    rules = Permissions(AccessConfig(administrators=entries))
    assert rules.administers(identity) is meant(entries, identity)


@given(st.none() | ENTRIES, st.none() | ENTRIES, IDENTITIES)
def test_both_rules_must_allow_and_no_rule_allows_all(
    of_usecase: tuple[str, ...] | None, of_launcher: tuple[str, ...] | None, identity: Identity
) -> None:
    access = AccessConfig(
        usecases={} if of_usecase is None else {"demo": Rule(of_usecase)},
        launchers={} if of_launcher is None else {"local": Rule(of_launcher)},
    )
    allowed = all(e is None or meant(e, identity) for e in (of_usecase, of_launcher))
    permissions = Permissions(access)
    assert (permissions.allowed(identity, usecase()) is not None) is allowed
    assert permissions.allowed(identity, usecase("other", "other"))
    cases = {"demo": usecase(), "other": usecase("other", "other")}
    assert set(permissions.startable(identity, cases)) == {"other", *(["demo"] if allowed else [])}


def test_without_a_word_nobody_administers() -> None:
    permissions = Permissions(AccessConfig())
    assert not permissions.administers(Identity("root", ("wheel", "")))
    assert not permissions.administers(Identity(""))


@pytest.mark.parametrize("entry", ["", " ", "group:", "group: ", " ada", "ada "])
def test_an_entry_that_names_nobody_is_told(entry: str) -> None:
    assert [index for index, _ in wrong_entries(["ada", entry, "group:x"])] == [1]


def test_the_configuration_tells_every_wrong_entry() -> None:
    text = """
        [access]
        administrators = ["group:"]
        [access.usecases."a b"]
        allow = ["ada", ""]
        [access.launchers.clutser]
        allow = []
        [authenticators.tokens]
        kind = "static"
        [launchers.cluster]
        kind = "local"
        [usecases.files]
        kind = "toml"
    """
    with pytest.raises(ConfigError) as caught:
        config_file.parse(text, "x")
    found = {problem.pointer: problem.detail for problem in caught.value.problems}
    assert set(found) == {
        "access.administrators[0]",
        'access.usecases."a b".allow[1]',
        "access.launchers.clutser",
    }
    assert "known: cluster" in found["access.launchers.clutser"]


def test_of_several_launchers_those_stay_that_one_may_use() -> None:
    permissions = Permissions(AccessConfig(launchers={"gpu": Rule(("group:gpu",))}))
    several = replace(usecase(launcher="gpu"), fallbacks=("local", "cloud"))
    own = permissions.allowed(Identity("ada"), several)
    assert own is not None
    assert own.choices == ("local", "cloud")
    assert permissions.allowed(Identity("ada", ("gpu",)), several) == several
    assert permissions.allowed(Identity("ada"), usecase(launcher="gpu")) is None
