from __future__ import annotations

import base64

import pytest

from vsmgate.errors import Unauthenticated
from vsmgate.model import Identity, Secret
from vsmgate.sessions import KEY_SIZE, Sessions

ADA = Identity("ada", ("viz",), 1000.0, "oidc")
SESSIONS = Sessions(b"k" * KEY_SIZE, 100.0)


def test_a_session_stands_for_its_identity() -> None:
    session = SESSIONS.make("job", "renderer", ADA, 10.0)
    assert session.seconds == 100
    assert SESSIONS.read(session.value, "job", "renderer", 109.0) == ADA
    assert Sessions(b"k" * KEY_SIZE, 1.0).read(session.value, "job", "renderer", 50.0) == ADA
    assert "ada" not in repr(session)


@pytest.mark.parametrize(
    ("job", "service", "now"),
    [("other", "renderer", 50.0), ("job", "backend", 50.0), ("job", "renderer", 110.0)],
)
def test_it_is_for_one_service_of_one_job_for_a_while(job: str, service: str, now: float) -> None:
    session = SESSIONS.make("job", "renderer", ADA, 10.0)
    with pytest.raises(Unauthenticated):
        SESSIONS.read(session.value, job, service, now)


def test_it_ends_with_the_token() -> None:
    session = SESSIONS.make("job", "renderer", ADA, 950.0)
    assert session.seconds == 50
    with pytest.raises(Unauthenticated):
        SESSIONS.read(session.value, "job", "renderer", 1000.0)
    assert SESSIONS.make("job", "renderer", ADA, 2000.0).seconds == 0


def test_nobody_else_can_make_one() -> None:
    value = SESSIONS.make("job", "renderer", ADA, 10.0).value.reveal()
    with pytest.raises(Unauthenticated):
        Sessions(b"x" * KEY_SIZE, 100.0).read(Secret(value), "job", "renderer", 10.0)
    for at in range(len(value)):
        other = "A" if value[at] != "A" else "B"
        forged = value[:at] + other + value[at + 1 :]
        octets = base64.urlsafe_b64decode(forged + "=" * (-len(forged) % 4))
        if octets != base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)):
            with pytest.raises(Unauthenticated):
                SESSIONS.read(Secret(forged), "job", "renderer", 10.0)
    for nonsense in ("", "x", "é", "====", "A" * 43, "A" * 5000, value + "AAAA"):
        with pytest.raises(Unauthenticated):
            SESSIONS.read(Secret(nonsense), "job", "renderer", 10.0)
