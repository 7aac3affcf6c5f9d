"""Random histories on SQLite, checked step by step against the store in memory."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest_twisted
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy.engine import make_url
from twisted.internet.defer import Deferred

from vsmgate.errors import GatewayError
from vsmgate.hands.database import Database
from vsmgate.interfaces import IJobStore
from vsmgate.lifecycle import ENDED, State
from vsmgate.model import Idempotency, Quota, replace
from vsmgate.stores.store import SqlStore
from vsmgate.testing.stores import MemoryStore, WallClock, ended, new_job

T = TypeVar("T")
OWNERS = st.sampled_from(["ada", "bob", "eve"])
LIMITS = st.none() | st.integers(0, 3)
NAMED = st.dictionaries(st.sampled_from(["demo", "vis", "lab"]), st.integers(0, 3))
QUOTAS = st.builds(
    Quota,
    per_user=LIMITS,
    total=LIMITS,
    queue=st.booleans(),
    per_usecase=NAMED,
    per_group=NAMED,
)
GROUPS = st.sets(st.sampled_from(["vis", "lab"])).map(lambda found: tuple(sorted(found)))
KEYS = st.none() | st.builds(
    Idempotency, key=st.sampled_from(["k", "l"]), digest=st.sampled_from(["a", "a", "b"])
)
PICKS = st.integers(0, 1000)
TIMES = st.integers(0, 200_000).map(float)


def result(call: Coroutine[Any, Any, T]) -> T | type[GatewayError]:
    """Run to the end; a refusal is a result too."""
    try:
        value: T = pytest_twisted.blockon(Deferred.fromCoroutine(call))
    except GatewayError as error:
        return type(error)
    return value


class Histories(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        from twisted.internet import reactor

        self.folder = Path(tempfile.mkdtemp(prefix="vsmgate-test-"))
        self.wall = WallClock(0.0)
        url = make_url("sqlite://").set(database=str(self.folder / "jobs.sqlite3"))
        self.stores: list[IJobStore] = [
            SqlStore(Database(url, reactor), self.wall),
            MemoryStore(self.wall),
        ]
        self.ids: list[str] = []

    def both(self, verb: str, *arguments: Any) -> Any:
        real, model = (result(getattr(store, verb)(*arguments)) for store in self.stores)
        assert real == model
        return real

    def pick(self, number: int) -> str:
        return self.ids[number % len(self.ids)] if self.ids else "a" * 26

    @initialize()
    def open(self) -> None:
        self.both("open")

    @rule(owner=OWNERS, groups=GROUPS, quota=QUOTAS, key=KEYS)
    def add(
        self, owner: str, groups: tuple[str, ...], quota: Quota, key: Idempotency | None
    ) -> None:
        job = new_job(owner, created_at=self.wall.now, groups=groups)
        self.both("add", job, quota, key)
        self.ids.append(job.id)

    @rule(quota=QUOTAS)
    def release(self, quota: Quota) -> None:
        self.both("release", quota)

    @rule(number=PICKS, state=st.sampled_from(State), same=st.booleans())
    def change(self, number: int, state: State, same: bool) -> None:
        job_id, now = self.pick(number), self.wall.now
        if same:
            self.both("update", job_id, lambda job: job)
        elif state in ENDED:
            self.both("update", job_id, lambda job: ended(job, now, state))
        else:
            self.both("update", job_id, lambda job: replace(job, state=state, ended_at=None))

    @rule(number=PICKS, at=TIMES)
    def touch(self, number: int, at: float) -> None:
        self.both("touch", {self.pick(number): at})

    @rule(seconds=st.sampled_from([0.0, 1.0, 50_000.0]), age=st.sampled_from([0.0, 60_000.0]))
    def prune(self, seconds: float, age: float) -> None:
        self.wall.now += seconds
        self.both("prune", self.wall.now - age)

    @rule(owner=OWNERS, states=st.sets(st.sampled_from(State)), limit=st.integers(1, 4))
    def page(self, owner: str, states: set[State], limit: int) -> None:
        cursor = None
        for _ in range(100):
            page = self.both("page", owner, states, None, limit, cursor)
            cursor = page.next_cursor
            if cursor is None:
                break
        else:
            raise AssertionError("the pages never end")

    @rule(states=st.sets(st.sampled_from(State)), limit=st.integers(1, 4), here=st.booleans())
    def page_of_all(self, states: set[State], limit: int, here: bool) -> None:
        launcher = "local" if here else "elsewhere"
        page = self.both("page", None, states, "demo", limit, None, launcher)
        assert here or not page.items

    @rule(subject=OWNERS, at=TIMES)
    def revoke(self, subject: str, at: float) -> None:
        self.both("revoke", subject, at)
        self.both("revocations")

    @rule()
    def reopen(self) -> None:
        self.both("close")
        self.both("open")

    @invariant()
    def the_same_jobs(self) -> None:
        if self.ids:
            self.both("changes", 0)
            self.both("live")

    def teardown(self) -> None:
        self.both("close")
        shutil.rmtree(self.folder)


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=25,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
