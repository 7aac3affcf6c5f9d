from __future__ import annotations

import pytest

from vsmgate.doorstep import Doorstep, neighbourhood
from vsmgate.errors import QuotaExceeded, Unavailable
from vsmgate.forwarding import read_networks


def test_one_address_cannot_take_all_places() -> None:
    doorstep = Doorstep(3, 2)
    leave = doorstep.enter("192.0.2.1")
    doorstep.enter("192.0.2.1")
    with pytest.raises(QuotaExceeded):
        doorstep.enter("192.0.2.1")
    doorstep.enter("192.0.2.2")
    with pytest.raises(Unavailable):
        doorstep.enter("192.0.2.3")
    leave()
    leave()  # whoever was known, and goes then, leaves once
    doorstep.enter("192.0.2.1")
    with pytest.raises(Unavailable):
        doorstep.enter("192.0.2.1")


def test_addresses_that_left_take_no_memory() -> None:
    doorstep = Doorstep(3, 2)
    for leave in [doorstep.enter(f"192.0.2.{number}") for number in (1, 1, 2)]:
        leave()
    assert not doorstep._waiting


def test_many_are_behind_a_proxy_of_ours() -> None:
    doorstep = Doorstep(10, 1, read_networks(["10.0.0.0/8"]))
    for _ in range(9):
        doorstep.enter("10.1.2.3")
    doorstep.enter("192.0.2.1")
    with pytest.raises(Unavailable):
        doorstep.enter("10.1.2.3")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("-", "-"),
        ("fe80::1%eth0", "fe80::1%eth0"),
    ],
)
def test_what_counts_as_one_address(address: str, expected: str) -> None:
    assert neighbourhood(address) == expected
