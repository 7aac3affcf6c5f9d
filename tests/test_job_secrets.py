from __future__ import annotations

from vsmgate.job_secrets import JobSecrets
from vsmgate.model import Service, Usecase


def test_each_job_has_its_own_and_every_gateway_with_the_key_knows_it() -> None:
    secrets = JobSecrets(b"k" * 32)
    first, second = secrets.of("a" * 26).reveal(), secrets.of("b" * 26).reveal()
    assert first != second
    assert len(first) == 43
    # Jobs that run know theirs: the next version must come to the same.
    assert first == "6fZsYo2Y0DLaRU5Mn9PJpnc61kugJWSqWHkSH9QrLjQ"
    assert JobSecrets(b"k" * 32).of("a" * 26).reveal() == first
    assert JobSecrets(b"x" * 32).of("a" * 26).reveal() != first


def test_only_jobs_with_a_service_that_asks_get_one() -> None:
    secrets = JobSecrets(b"k" * 32)
    plain = Usecase("test", "local", {"renderer": Service()}, {})
    assert secrets.wanted("a" * 26, plain) is None
    asking = Usecase("test", "local", {"renderer": Service(), "x": Service(secret=True)}, {})
    wanted = secrets.wanted("a" * 26, asking)
    assert wanted is not None
    assert wanted.reveal() == secrets.of("a" * 26).reveal()
