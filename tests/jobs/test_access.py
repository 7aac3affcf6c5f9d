"""Who is let in by what; coming back with the session of an earlier request."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.jobs.rig import ALICE, BOB, House, make_ready
from vsmgate.errors import JobEnded, NoSuchJob, Unauthenticated
from vsmgate.jobs.access import TOKENLESS
from vsmgate.model import Identity, Secret, Service
from vsmgate.relay.desk import Credential


def test_a_session_admits_like_the_credential_it_was_made_from(house: House) -> None:
    job = make_ready(house, house.start())
    shown = Credential("bearer", Secret("alice"))
    target = house.result(house.access.admit(job.id, "renderer", shown))
    session = house.access.session(target)
    again = Credential("session", session.value)
    assert house.result(house.access.admit(job.id, "renderer", again)) == target

    other = make_ready(house, house.start())
    with pytest.raises(Unauthenticated):
        house.result(house.access.admit(other.id, "renderer", again))
    house.result(house.desk.stop(ALICE, job.id))
    house.pass_time(10)
    with pytest.raises(JobEnded):
        house.result(house.access.admit(job.id, "renderer", again))


@pytest.mark.criterion("S-31")
def test_who_tries_a_job_of_others_is_known(house: House) -> None:
    job = make_ready(house, house.start())
    known: list[Identity] = []
    for shown in ("bob", "nobody's"):
        credential = Credential("bearer", Secret(shown))
        with pytest.raises((NoSuchJob, Unauthenticated)):
            house.result(house.access.admit(job.id, "renderer", credential, known.append))
    assert [identity.subject for identity in known] == ["bob"]


def test_a_session_ends(house: House) -> None:
    job = make_ready(house, house.start())
    shown = Credential("bearer", Secret("alice"))
    session = house.access.session(house.result(house.access.admit(job.id, "renderer", shown)))
    house.pass_time(601)
    with pytest.raises(Unauthenticated):
        house.result(house.access.admit(job.id, "renderer", Credential("session", session.value)))


def test_the_owner_counts_not_the_session(house: House) -> None:
    """Also a session that the gateway itself signed gives nobody another's job."""
    sessions = house.sessions
    job = make_ready(house, house.start())
    forged = sessions.make(job.id, "renderer", BOB, house.clock.seconds())
    with pytest.raises(NoSuchJob):
        house.result(house.access.admit(job.id, "renderer", Credential("session", forged.value)))


def test_without_a_credential_only_a_tokenless_job_admits(make_house: Callable[..., House]) -> None:
    house = make_house(tokenless=True)
    admit, job = house.access.admit, make_ready(house, house.start())
    target = house.result(admit(job.id, "renderer", None))
    assert target.identity == Identity("alice", authenticator=TOKENLESS)
    house.names.revoked.add("alice")
    house.result(house.access.recheck(target.identity))  # there is no token to revoke
    with pytest.raises(NoSuchJob):  # who shows a token is who it says, not the owner
        house.result(admit(job.id, "renderer", Credential("bearer", Secret("bob"))))
    with pytest.raises(Unauthenticated):
        house.result(admit("a" * 26, "renderer", None))


def test_only_a_service_that_asks_is_shown_the_jobs_secret(
    make_house: Callable[..., House],
) -> None:
    house = make_house(services={"renderer": Service(), "backend": Service(secret=True)})
    job, shown = make_ready(house, house.start()), Credential("bearer", Secret("alice"))
    secrets = [
        house.result(house.access.admit(job.id, service, shown)).secret
        for service in ("renderer", "backend")
    ]
    assert secrets[0] is None
    assert secrets[1] is not None
    assert secrets[1].matches(house.secrets.of(job.id).reveal())


def test_a_later_token_renews_and_is_asked_about_from_then_on(house: House) -> None:
    now = house.clock.seconds()
    early, late = (Secret(f"alice@{now:.0f}-{now + end:.0f}") for end in (100, 200))
    identity = house.result(house.access.authenticate(early))
    for shown in (early, late, late, early):
        house.result(house.access.authenticate(shown))
    (renewal,) = house.audit("renew")
    assert (renewal["subject"], renewal["expires_at"]) == ("alice", now + 200)
    house.clock.advance(150)
    assert house.access.expires_in(identity) == 50.0
    house.result(house.access.recheck(identity))
    house.names.revoked.add("alice")
    with pytest.raises(Unauthenticated):
        house.result(house.access.recheck(identity))
