"""Houses for tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.jobs.rig import House


@pytest.fixture
def make_house() -> Any:
    """Return a maker of houses; nothing of theirs ticks on afterwards."""
    made: list[House] = []

    def make(**config: Any) -> House:
        made.append(House(**config))
        return made[-1]

    yield make
    for house in made:
        house.end()
        assert not house.clock.getDelayedCalls()


@pytest.fixture
def house(make_house: Callable[..., House]) -> House:
    """Return a house with the default configuration."""
    return make_house()
