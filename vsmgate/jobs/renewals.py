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
        self._latest: dict[str, Identity] = {}

    def note(self, identity: Identity) -> bool:
        """A good token was shown; tells whether it renews what an earlier one opened.

        One that never ends says nothing of those that do.
        """
        if identity.expires_at is None:
            return False
        known = self._latest.pop(identity.subject, identity)
        later = _end(identity) > _end(known)
        self._latest[identity.subject] = identity if later else known
        if len(self._latest) > self._most:
            now = self._wall()
            self._latest = {s: i for s, i in self._latest.items() if _end(i) > now}
            while len(self._latest) > self._most * 3 // 4:
                del self._latest[next(iter(self._latest))]
        return later

    def current(self, identity: Identity) -> Identity:
        """Return ``identity`` until its end, and then what its subject has shown since."""
        if identity.expires_at is None or self._wall() < identity.expires_at:
            return identity
        latest = self._latest.get(identity.subject, identity)
        return latest if _end(latest) > _end(identity) else identity

    def expires_in(self, identity: Identity) -> float | None:
        """Return the seconds until it ends; None when it does not."""
        if identity.expires_at is None:
            return None
        latest = self._latest.get(identity.subject, identity)
        return max(identity.expires_at, _end(latest)) - self._wall()


def _end(identity: Identity) -> float:
    return identity.expires_at or 0.0
