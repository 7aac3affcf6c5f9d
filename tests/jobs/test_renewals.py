"""Until when a subject has proved who it is."""

from __future__ import annotations

from vsmgate.jobs.renewals import Renewals
from vsmgate.model import Identity


def test_a_later_token_renews_an_earlier_one() -> None:
    renewals = Renewals(lambda: 100.0)
    early, late = Identity("ada", expires_at=150.0), Identity("ada", expires_at=400.0)
    assert renewals.expires_in(early) == 50.0
    renewals.note(late)
    renewals.note(early)  # an old token that is shown again takes nothing away
    assert renewals.expires_in(early) == renewals.expires_in(late) == 300.0
    assert renewals.expires_in(Identity("bob", expires_at=90.0)) == -10.0


def test_what_never_ends_neither_ends_nor_renews() -> None:
    renewals = Renewals(lambda: 100.0)
    renewals.note(Identity("ada"))
    assert renewals.expires_in(Identity("ada")) is None
    assert renewals.expires_in(Identity("ada", expires_at=150.0)) == 50.0


def test_what_is_remembered_has_an_end() -> None:
    renewals = Renewals(lambda: 100.0, most=100)
    for number in range(1000):
        renewals.note(Identity(f"user-{number}", expires_at=200.0))
    kept = [
        n for n in range(1000) if renewals.expires_in(Identity(f"user-{n}", expires_at=0.0)) == 100
    ]
    assert 75 <= len(kept) <= 100
    assert kept[-1] == 999
