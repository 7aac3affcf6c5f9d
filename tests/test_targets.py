"""Where services may be dialled (S-7 of the security criteria, its pure half)."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from vsmgate.targets import REMOTE, TargetRule, read_host, read_targets, wrong_with_target

NEVER = (
    "0.0.0.0", "0.1.2.3", "::", "169.254.169.254", "169.254.1.1", "169.254.170.2",
    "fe80::1", "224.0.0.1", "255.255.255.255", "ff02::1", "100.100.100.200", "fd00:ec2::254",
    "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1",
)  # fmt: skip


@pytest.mark.criterion("S-7")
@pytest.mark.parametrize("address", NEVER)
def test_some_addresses_are_never_dialled(address: str) -> None:
    everything = read_targets(["0.0.0.0/0", "::/0", "x"])
    for rule in (TargetRule(), REMOTE, everything):
        assert rule.refusal("x", ip_address(address))


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_loopback_is_only_for_those_who_list_it(address: str) -> None:
    found = ip_address(address)
    assert TargetRule().refusal(address, found) == ""
    assert read_targets(["127.0.0.0/8", "::1"]).refusal(address, found) == ""
    for rule in (REMOTE, read_targets(["10.0.0.0/8"]), read_targets(["evil.example.org"])):
        assert "loopback" in rule.refusal("evil.example.org", found)


@pytest.mark.parametrize(
    ("name", "address", "fits"),
    [
        ("10.1.2.3", "10.1.2.3", True),
        ("any.name", "10.1.2.3", True),
        ("::ffff:10.1.2.3", "::ffff:10.1.2.3", True),
        ("11.1.2.3", "11.1.2.3", False),
        ("n1.hpc.example.org", "11.1.2.3", True),
        ("n.hpc.example.org", "11.1.2.3", True),
        ("N1.Rack.HPC.example.org.", "11.1.2.3", True),
        ("hpc.example.org", "11.1.2.3", False),
        ("evilhpc.example.org", "11.1.2.3", False),
        ("n1.hpc.example.org.evil.com", "11.1.2.3", False),
        ("login.example.org", "2001:db8::1", True),
        ("x.login.example.org", "2001:db8::1", False),
    ],
)
def test_lists(name: str, address: str, fits: bool) -> None:
    rule = read_targets(["10.0.0.0/8", "*.hpc.example.org", "login.example.org"])
    assert (rule.refusal(name, ip_address(address)) == "") is fits


def test_without_a_list_every_other_machine_will_do() -> None:
    for address in ("10.0.0.1", "192.168.1.1", "8.8.8.8", "2001:db8::1", "fd12::1"):
        assert REMOTE.refusal("x", ip_address(address)) == ""


@pytest.mark.criterion("S-7")
@pytest.mark.parametrize(
    "host",
    [
        *("", " ", "a b", "a..b", "-a", "a-.b", "x" * 64, "a." * 127 + "b", "a/b", "a:1", "ü.de"),
        *("a\nb", "a\0b", "2130706433", "0x7f000001", "0x7f.1", "127.1", "0177.0.0.1", "1.2.3.256"),
        *("[::1]", "::1%lo", "fe80::1%eth0", "user@host", "127.0.0.1.", "n1.0x10"),
    ],
)
def test_what_is_no_host(host: str) -> None:
    with pytest.raises(ValueError, match="neither a host's name nor an address"):
        read_host(host)


def test_what_is_one() -> None:
    assert read_host("::ffff:1.2.3.4") == ip_address("1.2.3.4")
    assert read_host("2001:db8::1") == ip_address("2001:db8::1")
    for name in ("node-1", "n_1.example.org.", "1a.example", "localhost"):
        assert read_host(name) is None


@pytest.mark.parametrize(
    "entry", ["10.0.0.1/8", "1.2.3", "*", "*.", "a.*", "a*.b", "", "x/24", "::/129", "a b"]
)
def test_entries_that_say_nothing(entry: str) -> None:
    assert "is no target" in wrong_with_target(entry)


@pytest.mark.parametrize("entry", ["10.0.0.0/8", "::1", "1.2.3.4", "node", "*.a.example.org"])
def test_entries_that_do(entry: str) -> None:
    assert wrong_with_target(entry) == ""
