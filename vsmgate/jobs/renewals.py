"""Until when a subject has proved who it is."""

from __future__ import annotations

from collections.abc import Callable

from vsmgate.model import Identity

__all__ = ["Renewals"]

#: Subjects remembered; beyond, those that have ended are dropped, then the oldest.
_MOST = 10000


class Renewals:
    """Remembers the latest end of each subject's tokens.

    Whoever shows a later token, in a REST call or a handshake, renews what an earlier one
    of the same subject has opened. Of this process: another's calls are not known here.
    """

    def __init__(self, wall: Callable[[], float], most: int = _MOST) -> None:
        self._wall = wall
        self._most = most
        self._until: dict[str, float] = {}

    def note(self, identity: Identity) -> bool:
        """A good token was shown; tells whether it renews what an earlier one opened.

        One that never ends says nothing of those that do.
        """
        until = identity.expires_at
        if until is None:
            return False
        known = self._until.pop(identity.subject, until)
        self._until[identity.subject] = max(until, known)
        if len(self._until) > self._most:
            now = self._wall()
            self._until = {s: t for s, t in self._until.items() if t > now}
            while len(self._until) > self._most * 3 // 4:
                del self._until[next(iter(self._until))]
        return until > known

    def expires_in(self, identity: Identity) -> float | None:
        """Return the seconds until it ends; None when it does not."""
        if identity.expires_at is None:
            return None
        until = max(identity.expires_at, self._until.get(identity.subject, 0.0))
        return until - self._wall()
