"""Gateways for tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.rig import Gateway


@pytest.fixture
def make_gateway(tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    """Return a maker of gateways; they and their jobs are gone afterwards."""
    made: list[Gateway] = []

    def make(*options: str) -> Gateway:
        gateway = Gateway(tmp_path / "state", *options)
        made.append(gateway)
        gateway.start()
        return gateway

    try:
        yield make
    finally:
        for gateway in made:
            gateway.close()


@pytest.fixture
def gateway(make_gateway: Callable[..., Gateway]) -> Gateway:
    """Return a running gateway with the embedded default configuration."""
    return make_gateway()
