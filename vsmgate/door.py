"""What both faces do where somebody comes in: limit bad credentials, and record who did what."""

from __future__ import annotations

from typing import Protocol

from vsmgate.audit import Recorder, Unaudited
from vsmgate.errors import TooManyFailures
from vsmgate.model import Secret
from vsmgate.strikes import Strikes, network_of

__all__ = ["Door", "Log"]


class Log(Recorder, Protocol):
    """An audit log (`vsmgate.hands.audit_log.AuditLog` is one)."""

    def refused(self, action: str, outcome: str, peer: str, request_id: str, face: str) -> None:
        """Keep what a stranger tried, in bounded number."""


class _Nobody(Unaudited):
    def refused(self, action: str, outcome: str, peer: str, request_id: str, face: str) -> None:
        """Do nothing."""


class Door:
    """One for all faces of a process; without arguments it neither limits nor records."""

    def __init__(self, strikes: Strikes | None = None, audit: Log | None = None) -> None:
        self._strikes = strikes
        self.audit: Log = audit or _Nobody()

    def check(self, credential: Secret, peer: str, request_id: str, face: str) -> None:
        """Raise `TooManyFailures` where ``peer`` may not try ``credential`` now."""
        if self._strikes is None:
            return
        try:
            self._strikes.check(peer, credential.digest())
        except TooManyFailures as error:
            shown = network_of(peer) or peer
            self.audit.refused("authenticate", error.code, shown, request_id, face)
            raise

    def failed(self, credential: Secret, peer: str, request_id: str, face: str) -> None:
        """``credential`` stands for nobody."""
        if self._strikes is not None:
            self._strikes.failed(peer, credential.digest())
        shown = network_of(peer) or peer
        self.audit.refused("authenticate", "unauthenticated", shown, request_id, face)

    def passed(self, credential: Secret) -> None:
        """``credential`` is good."""
        if self._strikes is not None:
            self._strikes.passed(credential.digest())
