"""What a gateway keeps of who may do what, and of who did: made together, once a process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from vsmgate.config import Config
from vsmgate.door import Door
from vsmgate.hands.audit_log import AuditLog
from vsmgate.interfaces import IJobStore
from vsmgate.jobs.revocations import Revocations
from vsmgate.jobs.ticker import Ticker
from vsmgate.permissions import Permissions
from vsmgate.strikes import Strikes

__all__ = ["Guard"]

#: Seconds between two looks at what strangers tried often.
TALLY = 10.0


class Guard:
    """The rules of access, the door of all faces, the audit log, and what was revoked.

    ``tickers`` are the services that it needs.
    """

    def __init__(
        self,
        config: Config,
        state_dir: Path,
        store: IJobStore,
        reactor: Any,
        wall: Callable[[], float],
    ) -> None:
        self.permissions = Permissions(config.access)
        file = Path(config.audit.file or state_dir / "audit.jsonl")
        self.audit = AuditLog(file, wall, reactor.seconds)
        self.door = Door(Strikes(config.access.failures_per_minute, reactor.seconds), self.audit)
        self.revocations = Revocations(store, reactor, wall)
        self.tickers = [Ticker("audit", self._tally, reactor), self.revocations.ticker]

    def open(self) -> None:
        """Begin to record; fails with `vsmgate.errors.ConfigError`."""
        self.audit.open()

    def close(self) -> None:
        """Record no more."""
        self.audit.close()

    async def _tally(self) -> float:
        self.audit.flush()
        return TALLY
