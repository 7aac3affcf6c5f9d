"""How often an address may show bad credentials: a bucket each, in bounded memory. Pure.

A bucket holds a minute's worth of failures and empties steadily. While it is full, what
comes from the address is refused before anything is asked or computed for it, except
credentials that were good before: so one bad client behind a shared address does not lock
its neighbours out. Loopback addresses, and peers without an address, are not counted: they are
the machine's own, or those of a front that nobody named in ``trusted_proxies``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

from vsmgate.doorstep import neighbourhood
from vsmgate.errors import TooManyFailures
from vsmgate.targets import read_host

__all__ = ["Strikes", "network_of"]

_MINUTE = 60.0

#: Addresses, and good credentials, that are remembered.
_MOST = 10_000


@lru_cache(4096)  # it takes longer than all else that is done with an address
def network_of(address: str) -> str:
    """Return what of ``address`` is counted as one: IPv4 whole, IPv6 by its /64.

    Empty for what is not counted.
    """
    try:
        found = read_host(address.partition("%")[0])
    except ValueError:
        return ""
    return "" if found is None or found.is_loopback else neighbourhood(str(found))


class Strikes:
    """Counts failures; ``seconds`` is a clock that never goes back."""

    def __init__(self, per_minute: int, seconds: Callable[[], float], most: int = _MOST) -> None:
        self._each = _MINUTE / per_minute
        self._seconds = seconds
        self._most = most
        #: network -> when its bucket will be empty.
        self._empty_at: dict[str, float] = {}
        #: digests of credentials that were good; the oldest goes first.
        self._good: dict[str, None] = {}

    def check(self, address: str, digest: str) -> None:
        """Raise `TooManyFailures` where ``address`` may not try this credential now."""
        if not self._empty_at or digest in self._good:
            return
        level = self._empty_at.get(network_of(address), 0.0) - self._seconds()
        over = level + self._each - _MINUTE
        if over > 1e-6:
            raise TooManyFailures(
                "Too many bad tokens came from your address; wait a little.",
                retry_after=math.ceil(over),
            )

    def failed(self, address: str, digest: str) -> None:
        """A credential was bad."""
        self._good.pop(digest, None)
        network = network_of(address)
        if not network:
            return
        now = self._seconds()
        self._empty_at[network] = max(self._empty_at.get(network, now), now) + self._each
        if len(self._empty_at) > self._most:
            self._shrink()

    def passed(self, digest: str) -> None:
        """A credential was good."""
        if digest not in self._good:
            self._good[digest] = None
            if len(self._good) > self._most:
                del self._good[next(iter(self._good))]

    def _shrink(self) -> None:
        """Forget the emptiest quarter of the buckets."""
        rest = sorted((at, network) for network, at in self._empty_at.items())
        self._empty_at = {network: at for at, network in rest[-(self._most * 3 // 4) :]}
