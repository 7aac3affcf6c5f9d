"""What every job store must do, as tests: subclass `StoreContract` and give it a store.

::

    class TestMyStore(StoreContract):
        @pytest.fixture
        def make_store(self, tmp_path, wall):
            return lambda: MyStore(tmp_path / "jobs", wall)

`MemoryStore`, the shipped fake, is here too.
"""

from __future__ import annotations

import pytest

# Before they are imported: so their failed assertions are explained as a test's own.
pytest.register_assert_rewrite(
    "vsmgate.testing.store_jobs", "vsmgate.testing.store_shares", "vsmgate.testing.store_starts"
)

from vsmgate.testing.memory_store import MemoryStore  # noqa: E402
from vsmgate.testing.store_jobs import StoreJobs  # noqa: E402
from vsmgate.testing.store_samples import FREE, WallClock, ended, new_job  # noqa: E402
from vsmgate.testing.store_shares import StoreShares  # noqa: E402
from vsmgate.testing.store_starts import StoreStarts  # noqa: E402

__all__ = ["FREE", "MemoryStore", "StoreContract", "WallClock", "ended", "new_job"]


class StoreContract(StoreJobs, StoreStarts, StoreShares):
    """The contract of `vsmgate.interfaces.IJobStore`; override the fixture `make_store`."""
