"""Grants and invitations as pure functions of a job."""

from __future__ import annotations

import pytest

from vsmgate.errors import (
    JobConflict,
    JobEnded,
    NoSuchGrant,
    NoSuchInvitation,
    ViewUnsupported,
)
from vsmgate.grants import Grant, Invitation, Right
from vsmgate.jobs import sharing
from vsmgate.lifecycle import State
from vsmgate.model import Identity, Job, Service, Usecase, View, replace

NOW = 1000.0
USECASE = Usecase("demo", "local", {"renderer": Service()}, {"local": {}})
BOB = Identity("bob", ("lab", "staff"))
DIGEST = "d" * 64


def job(*grants: Grant, **more: object) -> Job:
    return replace(Job("a" * 26, "ada", USECASE, 1.0, grants=grants), **more)


def to(right: Right = Right.VIEW, number: int = 0, **who: object) -> Grant:
    return Grant(f"g{number}", right, NOW, **(who or {"subject": "bob"}))


def link(right: Right = Right.VIEW, uses: int = 2, number: int = 0) -> Invitation:
    return Invitation(f"i{number}", DIGEST, right, NOW, NOW + 10, uses)


def test_each_right_includes_those_below_it() -> None:
    below = {
        Right.VIEW: {Right.VIEW},
        Right.CONTROL: {Right.VIEW, Right.CONTROL},
        Right.OWNER: set(Right),
    }
    for right, enough_for in below.items():
        assert {needed for needed in Right if right.includes(needed)} == enough_for


@pytest.mark.parametrize(
    ("grants", "right"),
    [
        ((), None),
        ((to(),), Right.VIEW),
        ((to(subject="eve"),), None),
        ((to(subject="lab"),), None),  # a subject is no group
        ((to(group="bob"),), None),
        ((to(Right.VIEW, group="lab"),), Right.VIEW),
        ((to(Right.VIEW, group="lab"), to(Right.CONTROL, 1, group="staff")), Right.CONTROL),
        ((to(Right.CONTROL), to(Right.VIEW, 1, group="lab")), Right.CONTROL),
        ((to(Right.CONTROL, subject="bob", expires_at=NOW), to(group="lab")), Right.VIEW),
        ((to(Right.CONTROL, subject="bob", expires_at=NOW + 0.1),), Right.CONTROL),
    ],
)
def test_the_greatest_present_right_counts(grants: tuple[Grant, ...], right: Right | None) -> None:
    assert sharing.right_of(job(*grants), BOB, NOW) is right


def test_the_owner_needs_no_grant() -> None:
    assert sharing.right_of(job(to(subject="ada")), Identity("ada"), NOW) is Right.OWNER


def test_one_has_one_grant() -> None:
    first = sharing.granted(job(to(group="lab")), to(Right.CONTROL, 1), NOW)
    second = sharing.granted(first, to(Right.VIEW, 2), NOW)
    assert [grant.id for grant in second.grants] == ["g0", "g2"]
    assert sharing.right_of(second, Identity("bob"), NOW) is Right.VIEW


def test_expired_grants_make_room() -> None:
    old = [to(number=n, subject=f"u{n}", expires_at=NOW) for n in range(sharing.MOST_GRANTS)]
    assert sharing.granted(job(*old), to(), NOW).grants == (to(),)
    live = [to(number=n, subject=f"u{n}") for n in range(sharing.MOST_GRANTS)]
    with pytest.raises(JobConflict, match="at most 100 grants"):
        sharing.granted(job(*live), to(number=101), NOW)
    again = to(Right.CONTROL, 102, subject="u7")  # instead of one that is there
    assert len(sharing.granted(job(*live), again, NOW).grants) == sharing.MOST_GRANTS


def test_what_cannot_be_shared() -> None:
    with pytest.raises(JobConflict):
        sharing.granted(job(), to(subject="ada"), NOW)
    over = job(state=State.STOPPED)
    with pytest.raises(JobEnded):
        sharing.granted(over, to(), NOW)
    with pytest.raises(JobEnded):
        sharing.invited(over, link(), NOW)


def test_who_knows_the_id_of_a_tokenless_job_controls_it() -> None:
    usecase = Usecase("old", "local", {"renderer": Service()}, {"local": {}}, tokenless=True)
    for give in (
        lambda: sharing.granted(job(usecase=usecase), to(Right.VIEW), NOW),
        lambda: sharing.invited(job(usecase=usecase), link(Right.VIEW), NOW),
    ):
        with pytest.raises(ViewUnsupported):
            give()
    assert sharing.granted(job(usecase=usecase), to(Right.CONTROL), NOW).grants


def test_a_service_is_viewed_only_where_it_says_how() -> None:
    with pytest.raises(ViewUnsupported):
        sharing.check_view(job(), Service())
    with pytest.raises(ViewUnsupported):  # what its page asks for cannot be told apart
        sharing.check_view(job(), Service(view=View.RECEIVE, http=True))
    for view in (View.RECEIVE, View.JSONRPC, View.BRAYNS):
        sharing.check_view(job(), Service(view=view))


def test_revoking() -> None:
    assert sharing.revoked(job(to(), to(number=1, group="lab")), "g0").grants == (
        to(number=1, group="lab"),
    )
    with pytest.raises(NoSuchGrant):
        sharing.revoked(job(to()), "g7")


def test_an_invitation_gives_each_one_grant_while_there_are_uses() -> None:
    other = Invitation("i9", "e" * 64, Right.VIEW, NOW, NOW + 10, 1)
    shared = sharing.invited(job(invitations=(other,)), link(uses=2), NOW)
    one = sharing.redeemed(shared, DIGEST, "bob", "g1", NOW)
    assert one.grants == (Grant("g1", Right.VIEW, NOW, "bob", invitation="i0"),)
    assert one.invitations[0] is other
    assert one.invitations[1].redeemed == ("bob",)
    assert sharing.redeemed(one, DIGEST, "bob", "g2", NOW) is one
    two = sharing.redeemed(one, DIGEST, "eve", "g3", NOW)
    assert two.invitations[1].redeemed == ("bob", "eve")
    assert sharing.redeemed(two, DIGEST, "eve", "g4", NOW) is two  # used up, and hers
    with pytest.raises(NoSuchInvitation):
        sharing.redeemed(two, DIGEST, "dan", "g5", NOW)


def test_who_was_revoked_does_not_come_back_by_a_link_that_was_not_needed_before() -> None:
    invited = job(to(), invitations=(link(uses=9), link(uses=9, number=1)))
    shared = sharing.redeemed(invited, DIGEST, "bob", "g1", NOW)
    assert shared is invited, "bob has the right already"
    gone = sharing.revoked(shared, "g0")
    with pytest.raises(NoSuchInvitation):
        sharing.redeemed(gone, DIGEST, "bob", "g2", NOW)
    assert [one.barred for one in gone.invitations] == [("bob",)] * 2
    assert not gone.invitations[0].redeemed, "it takes no use from others"
    assert sharing.redeemed(gone, DIGEST, "eve", "g3", NOW).grants
    again = sharing.granted(gone, to(number=4), NOW)
    assert sharing.right_of(again, BOB, NOW) is Right.VIEW, "the owner may think otherwise"


def test_who_was_revoked_does_not_come_back_by_the_same_link() -> None:
    shared = sharing.redeemed(job(invitations=(link(uses=9),)), DIGEST, "bob", "g1", NOW)
    with pytest.raises(NoSuchInvitation):
        sharing.redeemed(sharing.revoked(shared, "g1"), DIGEST, "bob", "g2", NOW)


def test_an_invitation_adds_and_never_takes() -> None:
    viewer, controller = job(to(Right.VIEW)), job(to(Right.CONTROL))
    more = sharing.redeemed(
        replace(viewer, invitations=(link(Right.CONTROL),)), DIGEST, "bob", "g1", NOW
    )
    assert [grant.right for grant in more.grants] == [Right.CONTROL]
    same = replace(controller, invitations=(link(Right.VIEW),))
    assert sharing.redeemed(same, DIGEST, "bob", "g1", NOW) is same
    own = job(invitations=(link(),))
    assert sharing.redeemed(own, DIGEST, "ada", "g1", NOW) is own


@pytest.mark.parametrize(
    ("given", "digest", "now"),
    [
        (job(), DIGEST, NOW),
        (job(invitations=(link(),)), "e" * 64, NOW),
        (job(invitations=(link(),)), DIGEST, NOW + 10),
        (job(invitations=(link(),), state=State.LOST), DIGEST, NOW),
    ],
)
def test_there_is_no_such_invitation(given: Job, digest: str, now: float) -> None:
    with pytest.raises(NoSuchInvitation):
        sharing.redeemed(given, digest, "bob", "g1", now)


def test_invitations_are_bounded_and_expire() -> None:
    full = job(invitations=tuple(link(number=n) for n in range(sharing.MOST_INVITATIONS)))
    with pytest.raises(JobConflict, match="at most 20 invitations"):
        sharing.invited(full, link(number=99), NOW)
    later = Invitation("i99", DIGEST, Right.VIEW, NOW + 10, NOW + 20, 1)
    assert sharing.invited(full, later, NOW + 10).invitations == (later,)
    assert len(sharing.uninvited(full, "i3").invitations) == sharing.MOST_INVITATIONS - 1
    with pytest.raises(NoSuchGrant):
        sharing.uninvited(full, "i77")
