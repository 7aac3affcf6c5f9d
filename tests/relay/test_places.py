"""Places that a gateway's workers share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hands.test_place_locks import Other
from tests.relay.rig import job
from vsmgate.errors import QuotaExceeded, ServiceBusy
from vsmgate.hands.place_locks import PlaceLocks
from vsmgate.model import Endpoint, Identity, Service
from vsmgate.relay.desk import Target
from vsmgate.relay.places import Places


def target(subject: str = "ada") -> Target:
    of = job(renderer=Service(max_clients=2))
    spec = of.usecase.services["renderer"]
    return Target(of, "renderer", spec, Endpoint("10.0.0.1", 5000), Identity(subject))


def test_what_other_workers_serve_counts_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "places"
    places, other = Places(2, PlaceLocks(path)), Other(path)
    here = target()
    try:
        assert other.take(f"service\0{here.job.id}\0renderer", 2)
        leave = places.take(here)
        with pytest.raises(ServiceBusy):
            places.take(here)
        page = places.take(here, relay=False)  # takes no place of the service, but its user's
        with pytest.raises(QuotaExceeded, match="You have 2 connections"):
            places.take(here, relay=False)
        leave()
        leave()
        page()
        assert other.take(f"service\0{here.job.id}\0renderer", 2)
        assert [other.take("user\0ada", 2) for _ in range(3)] == [True, True, False]
        with pytest.raises(QuotaExceeded, match="You have 2 connections"):
            places.take(here, relay=False)
    finally:
        other.kill()
