"""What was revoked opens nothing any more, and closes what it has opened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.jobs.rig import ALICE, House, make_ready
from vsmgate.config_file import parse
from vsmgate.errors import AuthenticatorUnavailable, ConfigError, NoSuchRevocation, Unauthenticated
from vsmgate.jobs.access import TOKENLESS
from vsmgate.jobs.revocations import REFRESH, Revocations
from vsmgate.model import Identity, Job, Secret, replace
from vsmgate.relay.desk import Credential


def revoke(house: House, subject: str) -> float:
    return house.result(house.desk.administration.revoke(subject))


def refused(house: House, call: Any) -> None:
    with pytest.raises(Unauthenticated):
        house.result(call)


def test_tokens_of_before_are_refused_and_those_of_later_are_not(house: House) -> None:
    at = revoke(house, "alice")
    assert house.desk.administration.revocations() == {"alice": at}
    for shown in ("alice", f"alice@{at - 100}", f"alice@{at}"):
        refused(house, house.access.authenticate(Secret(shown)))
    assert house.result(house.access.authenticate(Secret(f"alice@{at + 1}"))).subject == "alice"
    assert house.result(house.access.authenticate(Secret("bob"))).subject == "bob"
    house.crash()
    refused(house, house.access.authenticate(Secret(f"alice@{at}")))


def test_another_process_knows_soon(house: House) -> None:
    other = Revocations(house.store, house.clock, house.clock.seconds)
    other.ticker.startService()
    house.clock.advance(0)
    revoke(house, "alice")
    other.check(ALICE)
    house.pass_time(REFRESH + 1)
    with pytest.raises(Unauthenticated):
        other.check(ALICE)
    other.ticker.stopService()


def made_of(house: House, kind: str, job: Job) -> Credential:
    if kind == "ticket":
        secret, _ = house.result(house.desk.issue_ticket(ALICE, job.id, "renderer"))
        return Credential("ticket", secret)
    made = house.sessions.make(job.id, "renderer", ALICE, house.clock.seconds())
    return Credential("session", made.value)


@pytest.mark.parametrize("kind", ["ticket", "session"])
@pytest.mark.parametrize("how", ["administrator", "authenticator"])
def test_tickets_and_sessions_of_before_are_refused(house: House, kind: str, how: str) -> None:
    job = make_ready(house, house.start())
    assert house.result(house.access.admit(job.id, "renderer", made_of(house, kind, job)))
    late = made_of(house, kind, job)
    if how == "administrator":
        revoke(house, "alice")
    else:
        house.names.revoked.add("alice")
    refused(house, house.access.admit(job.id, "renderer", late))


def test_who_is_inside_is_asked_about(house: House) -> None:
    house.result(house.access.recheck(ALICE))
    house.names.revoked.add("alice")
    refused(house, house.access.recheck(ALICE))
    house.names.fault = AuthenticatorUnavailable("It is away.")
    with pytest.raises(AuthenticatorUnavailable):
        house.result(house.access.recheck(ALICE))


def test_what_ended_by_time_is_not_taken_for_revoked(house: House) -> None:
    now = house.clock.seconds()
    house.names.revoked.add("alice")
    over = replace_end(ALICE, now - 1)
    house.result(house.access.recheck(over))
    refused(house, house.access.recheck(replace_end(ALICE, now + 100)))


def replace_end(identity: Identity, end: float) -> Identity:
    return Identity(identity.subject, expires_at=end, issued_at=end - 300)


def test_nobody_is_revoked_who_came_without_a_token(house: House) -> None:
    revoke(house, "alice")
    house.result(house.access.recheck(Identity("alice", authenticator=TOKENLESS)))


def test_a_revocation_needs_no_job(house: House) -> None:
    job = make_ready(house, house.start())
    revoke(house, "alice")
    assert replace(house.get(job), revision=0).owner == "alice", "jobs go on"


def test_no_authenticator_is_taken_for_the_lack_of_one() -> None:
    """What its identities were given could not be revoked, and the name is the operator's."""
    text = (
        '[authenticators."{name}"]\nkind = "static"\n[launchers.local]\nkind = "local"\n'
        '[usecases.files]\nkind = "toml"\n'
    )
    assert "tokenless" in parse(text.format(name="tokenless"), "test").authenticators
    with pytest.raises(ConfigError, match=TOKENLESS):
        parse(text.format(name=TOKENLESS), "test")


def test_what_is_revoked_while_the_store_is_read_stays_revoked(house: House) -> None:
    """Other processes' revocations are read now and then; that may be behind by a moment."""

    class Slow:
        def __init__(self) -> None:
            self.answer: Deferred[dict[str, float]] = Deferred()

        def revocations(self) -> Deferred[dict[str, float]]:
            return self.answer

        async def revoke(self, subject: str, at: float) -> None:
            pass

    store: Any = Slow()
    revocations = Revocations(store, house.clock, house.clock.seconds)
    loading = Deferred.fromCoroutine(revocations.load())
    at = house.result(revocations.revoke("alice"))
    store.answer.callback({"bob": 5.0})  # it was read before
    assert loading.called
    assert revocations.all() == {"alice": at, "bob": 5.0}
    with pytest.raises(Unauthenticated):
        revocations.check(ALICE)


def test_a_clock_that_was_set_back_takes_no_revocation_back(house: House) -> None:
    now = [1_000.0]
    revocations = Revocations(house.store, house.clock, lambda: now[0])
    assert house.result(revocations.revoke("alice")) == 1_000.0
    now[0] = 900.0
    assert house.result(revocations.revoke("alice")) == 1_000.0
    with pytest.raises(Unauthenticated):
        revocations.check(Identity("alice", issued_at=950.0))


def test_what_was_lifted_is_good_again_here_and_soon_elsewhere(house: House) -> None:
    """A token that does not tell its age would never be good again otherwise."""
    other = Revocations(house.store, house.clock, house.clock.seconds)
    other.ticker.startService()
    revoke(house, "alice")
    revoke(house, "bob")
    house.pass_time(REFRESH + 1)
    for revocations in (house.revocations, other):
        with pytest.raises(Unauthenticated):
            revocations.check(ALICE)
    house.result(house.desk.administration.lift("alice"))
    assert house.result(house.access.authenticate(Secret("alice"))).subject == "alice"
    refused(house, house.access.authenticate(Secret("bob")))
    house.pass_time(REFRESH + 1)
    other.check(ALICE)
    other.ticker.stopService()
    with pytest.raises(NoSuchRevocation):
        house.result(house.desk.administration.lift("alice"))


def test_what_is_lifted_while_the_store_is_read_stays_lifted(house: House) -> None:
    revoke(house, "alice")
    revoke(house, "bob")
    read: Deferred[None] = Deferred()

    class Slow:
        lift = house.store.lift

        async def revocations(self) -> Mapping[str, float]:
            found = await house.store.revocations()
            await read
            return found

    store: Any = Slow()
    revocations = Revocations(store, house.clock, house.clock.seconds)
    read.callback(None)
    house.result(revocations.load())
    assert revocations.all().keys() == {"alice", "bob"}
    read = Deferred()
    loading = Deferred.fromCoroutine(revocations.load())
    house.result(revocations.lift("alice"))
    read.callback(None)
    assert loading.called
    assert revocations.all().keys() == {"bob"}
