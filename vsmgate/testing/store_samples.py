"""What the tests of job stores share: jobs, a clock, and the fixtures."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from vsmgate.interfaces import IJobStore
from vsmgate.lifecycle import State
from vsmgate.model import Job, Quota, Reason, Service, Usecase, new_job_id, replace

__all__ = ["FREE", "StoreFixtures", "WallClock", "ended", "new_job"]

#: A quota without limits.
FREE = Quota()

_serial = itertools.count(1)


class WallClock:
    """A wall clock that a test sets."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def new_job(
    owner: str = "ada", *, usecase: str = "demo", launcher: str = "local", **changes: Any
) -> Job:
    """Return a job that was never stored, younger than those made before."""
    what = Usecase(
        name=usecase, launcher=launcher, services={"renderer": Service()}, launch={"local": {}}
    )
    job = Job(
        id=new_job_id(), owner=owner, usecase=what, created_at=1_700_000_000.5 + next(_serial)
    )
    return replace(job, **changes)


def ended(job: Job, at: float, state: State = State.STOPPED) -> Job:
    """Return ``job`` as it ended."""
    return replace(job, state=state, ended_at=at, reason=Reason("completed", "It is done."))


class StoreFixtures:
    """The fixtures of `vsmgate.testing.stores.StoreContract`."""

    @pytest.fixture
    def wall(self) -> WallClock:
        """Return the clock that the store must use."""
        return WallClock()

    @pytest.fixture
    def make_store(self, wall: WallClock) -> Callable[[], IJobStore]:
        """Return what makes an empty store that is not open; to be overridden."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, make_store: Callable[[], IJobStore]) -> Iterator[IJobStore]:
        """Return an open store."""
        store = make_store()
        pytest_twisted.blockon(Deferred.fromCoroutine(store.open()))
        yield store
        pytest_twisted.blockon(Deferred.fromCoroutine(store.close()))
