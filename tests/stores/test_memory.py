from __future__ import annotations

from collections.abc import Callable

import pytest
import pytest_twisted

from vsmgate.errors import StoreUnavailable
from vsmgate.testing.stores import FREE, MemoryStore, StoreContract, WallClock, new_job


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def make_store(self, wall: WallClock) -> Callable[[], MemoryStore]:
        return lambda: MemoryStore(wall)


@pytest_twisted.ensureDeferred
async def test_a_fault_fails_every_verb_and_changes_nothing() -> None:
    store = MemoryStore()
    await store.open()
    job, _ = await store.add(new_job(), FREE, None)
    store.fault = StoreUnavailable("full")
    for call in (store.add(new_job(), FREE, None), store.get(job.id), store.prune(9e9)):
        with pytest.raises(StoreUnavailable, match="full"):
            await call
    store.fault = None
    assert await store.live() == [job]
