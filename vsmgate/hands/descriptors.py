"""How many connections fit into the open files that this process may have."""

from __future__ import annotations

import resource

__all__ = ["room_for_pairs"]

#: Descriptors for all else: the REST face, the store, logs, engines.
RESERVE = 128


def room_for_pairs() -> int:
    """Return how many clients may be connected, each with its service (RLIMIT_NOFILE)."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY:
        return 1 << 30
    return (most - min(RESERVE, most // 2)) // 2
