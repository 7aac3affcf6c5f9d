"""Limits of bad credentials by address."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsmgate.errors import TooManyFailures
from vsmgate.strikes import Strikes, network_of


class Seconds:
    def __init__(self) -> None:
        self.now = 5000.0

    def __call__(self) -> float:
        return self.now


def admits(strikes: Strikes, address: str, digest: str = "bad") -> bool:
    try:
        strikes.check(address, digest)
    except TooManyFailures:
        return False
    return True


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("127.0.0.1", ""),
        ("::1", ""),
        ("::ffff:127.0.0.1", ""),
        ("-", ""),
        ("", ""),
    ],
)
def test_what_counts_as_one_address(address: str, network: str) -> None:
    assert network_of(address) == network


def test_so_many_in_a_minute_and_then_one_for_each_that_leaks() -> None:
    seconds = Seconds()
    strikes = Strikes(6, seconds)
    for _ in range(6):
        assert admits(strikes, "192.0.2.7")
        strikes.failed("192.0.2.7", "bad")
    assert not admits(strikes, "192.0.2.7")
    assert admits(strikes, "192.0.2.8")
    with pytest.raises(TooManyFailures) as refused:
        strikes.check("192.0.2.7", "bad")
    assert refused.value.retry_after == 10
    seconds.now += 10.0
    assert admits(strikes, "192.0.2.7")
    strikes.failed("192.0.2.7", "bad")
    assert not admits(strikes, "192.0.2.7")
    seconds.now += 60.0
    assert admits(strikes, "192.0.2.7")


def test_who_was_good_before_is_not_locked_out_by_a_neighbour() -> None:
    strikes = Strikes(3, Seconds())
    strikes.passed("ada's")
    for _ in range(3):
        strikes.failed("192.0.2.7", "bad")
    assert admits(strikes, "192.0.2.7", "ada's")
    assert not admits(strikes, "192.0.2.7", "new")
    strikes.failed("192.0.2.7", "ada's")  # it is good no more
    assert not admits(strikes, "192.0.2.7", "ada's")


def test_the_machines_own_are_not_counted() -> None:
    strikes = Strikes(1, Seconds())
    for _ in range(100):
        strikes.failed("127.0.0.1", "bad")
        strikes.failed("-", "bad")
    assert admits(strikes, "127.0.0.1")
    assert admits(strikes, "-")


def test_memory_is_bounded_and_the_worst_are_remembered() -> None:
    strikes = Strikes(10, Seconds(), most=100)
    for _ in range(10):
        strikes.failed("192.0.2.7", "bad")
    for number in range(5000):
        strikes.failed(f"2001:db8:{number:x}::1", "bad")
        strikes.passed(f"good {number}")
    assert not admits(strikes, "192.0.2.7")
    assert len(strikes._empty_at) <= 100
    assert len(strikes._good) <= 100


@given(st.lists(st.tuples(st.floats(0, 30), st.booleans()), max_size=60), st.integers(1, 10))
def test_no_minute_has_more_than_twice_the_limit(
    steps: list[tuple[float, bool]], limit: int
) -> None:
    """A full bucket, and what leaks meanwhile: no more than that gets through."""
    seconds = Seconds()
    strikes = Strikes(limit, seconds)
    tries: list[float] = []
    for wait, _ in steps:
        seconds.now += wait
        if admits(strikes, "192.0.2.7"):
            strikes.failed("192.0.2.7", "bad")
            tries.append(seconds.now)
    for at in tries:
        assert sum(at <= other < at + 60.0 for other in tries) <= 2 * limit
