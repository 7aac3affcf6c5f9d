"""How many connections may be open of which nobody knows yet whose they are. Pure.

Whoever only connects costs a little each time, and needs no credential for it; so there are
fewer places at the door than inside, and one address cannot take them all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv6Address, ip_network

from vsmgate.errors import QuotaExceeded, Unavailable
from vsmgate.forwarding import Networks
from vsmgate.targets import read_host

__all__ = ["Doorstep", "neighbourhood"]

RETRY_AFTER = 5


@lru_cache(4096)  # it takes longer than all else that is done with an address
def neighbourhood(address: str) -> str:
    """Return what counts as one address: an IPv6 network of /64 is one subscriber's."""
    try:
        read = read_host(address)
    except ValueError:
        read = None
    if isinstance(read, IPv6Address):
        return str(ip_network((read, 64), strict=False))
    return str(read or address)


class Doorstep:
    """Counts connections until they are known, or gone.

    ``most``: of all addresses; ``most_of_one``: of one, unless it is in ``trusted``: behind
    such a proxy are many.
    """

    def __init__(self, most: int, most_of_one: int, trusted: Networks = ()) -> None:
        self._most = most
        self._most_of_one = most_of_one
        self._trusted = trusted
        self._waiting: Counter[str] = Counter()
        self._total = 0

    def enter(self, address: str) -> Callable[[], None]:
        """Count a connection from ``address``; returns what ends that, once.

        Fails with `QuotaExceeded` (the address has too many) or `Unavailable` (all have).
        """
        if self._total >= self._most:
            raise Unavailable("Too many connect at this moment.")
        where = neighbourhood(address)
        if self._waiting[where] >= self._most_of_one and not self._is_trusted(address):
            raise QuotaExceeded(
                f"Your address has {self._most_of_one} connections that have not shown a token"
                " yet, as many as are allowed.",
                retry_after=RETRY_AFTER,
            )
        self._waiting[where] += 1
        self._total += 1
        here = [where]
        return lambda: self._leave(here)

    def _leave(self, here: list[str]) -> None:
        while here:
            where = here.pop()
            self._total -= 1
            self._waiting[where] -= 1
            if not self._waiting[where]:
                del self._waiting[where]

    def _is_trusted(self, address: str) -> bool:
        try:
            read = read_host(address)
        except ValueError:
            return False
        return read is not None and any(read in network for network in self._trusted)
