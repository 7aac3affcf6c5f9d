from __future__ import annotations

import resource

from vsmgate.hands.descriptors import room_for_pairs


def test_room_leaves_something_for_all_else() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        for limit, room in ((1024, 448), (200, 50)):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
            assert room_for_pairs() == room
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
