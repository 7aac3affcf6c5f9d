"""Relays whose token ends; criterion S-15 of the security list."""

from __future__ import annotations

import pytest

from tests.relay.rig import FakeDesk, Link, Rig
from vsmgate.model import Identity


class Ending(FakeDesk):
    """Everybody's token ends so many seconds of the relay's clock after its start."""

    def __init__(self, end: float | None = 100.0) -> None:
        super().__init__()
        self.end = end
        self.seconds = lambda: 0.0

    def expires_in(self, identity: Identity) -> float | None:
        assert identity.subject == "ada"
        return None if self.end is None else self.end - self.seconds()


def rig(end: float | None = 100.0, **config: object) -> Rig:
    desk = Ending(end)
    found = Rig(desk, **config)
    desk.seconds = found.clock.seconds
    return found


def closed(client: Link) -> bool:
    octets = client.read()
    if not octets:
        return False
    assert octets[:1] == b"\x88"
    assert int.from_bytes(octets[2:4], "big") == 4401
    assert octets[4:] == b"The token has expired."
    return True


def wait(rig: Rig, seconds: float) -> None:
    """Turn the clock in steps, as a reactor does."""
    for _ in range(round(seconds)):
        rig.clock.advance(1.0)


@pytest.mark.criterion("S-15")
def test_s15_it_is_closed_within_five_seconds() -> None:
    here = rig()
    client, service = here.opened()
    wait(here, 104.0)
    assert not closed(client)
    wait(here, 1.0)
    assert closed(client)
    assert service.read()[:1] == b"\x88"


@pytest.mark.criterion("S-15")
def test_s15_renewed_in_time_it_goes_on() -> None:
    here = rig()
    client, _ = here.opened()
    wait(here, 99.0)
    here.desk.end = 200.0
    wait(here, 105.0)
    assert not closed(client)
    wait(here, 1.0)
    assert closed(client)


@pytest.mark.parametrize("end", [5000.0, None])
def test_the_clock_on_the_wall_may_be_set(end: float | None) -> None:
    here = rig(end)
    client, _ = here.opened(None)
    wait(here, 700.0)
    assert not closed(client)
    here.desk.end = end and 701.0
    wait(here, 600.0)
    assert closed(client) is (end is not None)


def test_an_operator_may_keep_them() -> None:
    here = rig(expiry="keep")
    client, _ = here.opened()
    wait(here, 1000.0)
    assert not closed(client)


def test_a_relay_that_is_over_leaves_no_clock() -> None:
    here = rig()
    before = len(here.clock.getDelayedCalls())
    client, service = here.opened()
    service.drop()
    client.drop()
    here.clock.advance(0)
    assert here.relay.relays == 0
    assert len(here.clock.getDelayedCalls()) <= before
