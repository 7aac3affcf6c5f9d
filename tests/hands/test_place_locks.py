"""Places that several processes share."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from vsmgate.hands.place_locks import PlaceLocks

OTHER = """
import sys
from pathlib import Path
from vsmgate.hands.place_locks import PlaceLocks
locks = PlaceLocks(Path(sys.argv[1]))
for line in sys.stdin:
    name, most = line.split()
    print(locks.take(name, int(most)) is not None, flush=True)
"""


class Other:
    """Another process."""

    def __init__(self, path: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", OTHER, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def take(self, name: str, most: int) -> bool:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{name} {most}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline() == "True\n"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(20)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


def test_processes_share_places_and_the_dead_give_theirs_back(tmp_path: Path) -> None:
    mine, other = PlaceLocks(tmp_path / "places"), Other(tmp_path / "places")
    try:
        first = mine.take("renderer", 3)
        assert first is not None
        assert other.take("renderer", 3)
        assert mine.take("renderer", 2) is None
        assert mine.take("renderer", 3) is not None
        assert not other.take("renderer", 3)
        assert other.take("backend", 1)
        assert mine.take("backend", 1) is None
        mine.give_back(first)
        assert other.take("renderer", 3)
        assert mine.take("renderer", 3) is None
    finally:
        other.kill()
    assert mine.take("renderer", 3) is not None
    assert mine.take("backend", 1) is not None


def test_nobody_takes_a_place_twice(tmp_path: Path) -> None:
    mine = PlaceLocks(tmp_path / "places")
    assert len({mine.take("renderer", 100) for _ in range(100)} - {None}) == 100
    assert mine.take("renderer", 100) is None
