"""Revocation closes relays within a minute."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tests.relay.rig import FakeDesk, Link, Rig
from vsmgate.errors import AuthenticatorUnavailable, Unauthenticated
from vsmgate.model import Identity


def wait(rig: Rig, seconds: float) -> None:
    for _ in range(round(seconds)):
        rig.clock.advance(1.0)


def code(client: Link) -> int | None:
    octets = client.read()
    return int.from_bytes(octets[2:4], "big") if octets[:1] == b"\x88" else None


@pytest.mark.criterion("S-15")
def test_a_revoked_token_closes_its_relays_within_a_minute() -> None:
    rig = Rig()
    client, service = rig.opened()
    wait(rig, 100.0)
    assert code(client) is None
    rig.desk.recheck_error = Unauthenticated("The token was revoked.")
    wait(rig, 45.0)
    assert code(client) == 4403
    assert service.read()[:1] == b"\x88"


def test_all_relays_of_one_token_are_one_question_each_half_minute() -> None:
    rig = Rig()
    clients = [rig.opened()[0] for _ in range(20)]
    wait(rig, 600.0)
    assert 600 / 39 - 1 <= rig.desk.rechecks <= 600 / 25
    rig.desk.recheck_error = Unauthenticated("The token was revoked.")
    wait(rig, 45.0)
    assert {code(client) for client in clients} == {4403}


def test_who_cannot_be_asked_about_stays(flush_logged: Callable[..., list[Failure]]) -> None:
    rig = Rig()
    client, _ = rig.opened()
    for error in (AuthenticatorUnavailable("It is away."), ZeroDivisionError()):
        rig.desk.recheck_error = error
        wait(rig, 100.0)
        assert code(client) is None
    assert flush_logged(ZeroDivisionError), "a fault of ours is logged"
    rig.desk.recheck_error = None
    asked = rig.desk.rechecks
    wait(rig, 100.0)
    assert rig.desk.rechecks > asked


class Slow(FakeDesk):
    """Its answers do not come."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Deferred[None]] = []
        self.cancelled = 0

    async def recheck(self, identity: Identity) -> None:
        answer: Deferred[None] = Deferred(lambda _: self._note())
        self.asked.append(answer)
        await answer

    def _note(self) -> None:
        self.cancelled += 1


def test_an_answer_that_does_not_come_is_given_up() -> None:
    desk = Slow()
    rig = Rig(desk)
    client, _ = rig.opened()
    wait(rig, 150.0)
    assert len(desk.asked) >= 3
    assert desk.cancelled >= len(desk.asked) - 1
    assert code(client) is None


def test_a_relay_that_is_over_leaves_no_clock_and_no_question() -> None:
    desk = Slow()
    rig = Rig(desk)
    before = len(rig.clock.getDelayedCalls())
    for asked in (0, 1):
        client, service = rig.opened()
        for _ in range(40):
            if len(desk.asked) < asked:
                wait(rig, 1.0)
        service.drop()
        client.drop()
        rig.clock.advance(0)
        assert rig.relay.relays == 0
        assert len(rig.clock.getDelayedCalls()) <= before
    assert desk.cancelled == len(desk.asked) == 1
