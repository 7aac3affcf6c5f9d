from __future__ import annotations

import os
from pathlib import Path

import pytest

from vsmgate.demo.backend_methods import read_memory, read_nrrd_header
from vsmgate.demo.folder import Folder
from vsmgate.demo.jsonrpc import InternalError, InvalidParams


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "circuits").mkdir(parents=True)
    (root / "b.txt").write_text("bee")
    (root / "A.txt").write_text("a")
    (tmp_path / "rooted").mkdir()
    (tmp_path / "secret").write_text("secret")
    (root / "out").symlink_to(tmp_path / "secret")
    (root / "up").symlink_to(tmp_path)
    (root / "loop").symlink_to(root / "loop")
    (root / "in").symlink_to(root / "b.txt")
    return root


@pytest.fixture
def folder(root: Path) -> Folder:
    return Folder(root)


def test_kinds(folder: Folder, root: Path) -> None:
    assert folder.kind(f"{root}") == "directory"
    assert folder.kind(f"{root}/circuits/../b.txt") == "file"
    assert folder.kind(f"{root}/in") == "file"
    assert folder.kind(f"{root}/nothing/at/all") is None


@pytest.mark.parametrize(
    "path",
    [
        "{root}/..",
        "{root}/../secret",
        "{root}/circuits/../../secret",
        "{root}/out",
        "{root}/up/secret",
        "{root}/up/root/../secret",
        "{root}/loop",
        "{root}ed",
        "/",
        "/etc/passwd",
        "b.txt",
        "",
        "{root}/a\0b",
    ],
)
def test_no_way_leads_out(folder: Folder, root: Path, path: str) -> None:
    path = path.format(root=root)
    for verb in (folder.kind, folder.entries, lambda p: folder.head(p, 10)):
        with pytest.raises(InvalidParams):
            verb(path)
    with pytest.raises(InvalidParams):
        folder.write(path, b"evil")
    assert (root.parent / "secret").read_text() == "secret"


def test_entries_are_sorted_and_what_leads_out_is_left_out(folder: Folder, root: Path) -> None:
    os.mkfifo(root / "pipe")
    folders, files = folder.entries(str(root))
    assert [entry.name for entry in folders] == ["circuits"]
    assert [(entry.name, entry.size) for entry in files] == [("A.txt", 1), ("b.txt", 3), ("in", 3)]
    with pytest.raises(InvalidParams, match="not a directory"):
        folder.entries(f"{root}/b.txt")


def test_writing(folder: Folder, root: Path) -> None:
    folder.write(f"{root}/circuits/new", b"\x00\x01")
    assert (root / "circuits/new").read_bytes() == b"\x00\x01"
    folder.write(f"{root}/circuits/new", b"2")
    assert (root / "circuits/new").read_bytes() == b"2"
    folder.write(f"{root}/in", b"through a link that stays in")
    assert (root / "b.txt").read_bytes() == b"through a link that stays in"
    with pytest.raises(InvalidParams, match="regular"):
        folder.write(f"{root}/circuits", b"")
    with pytest.raises(InternalError, match="No such file"):
        folder.write(f"{root}/missing/new", b"")


def test_reading_only_the_head(folder: Folder, root: Path) -> None:
    assert folder.head(f"{root}/b.txt", 2) == b"be"
    with pytest.raises(InvalidParams, match="regular"):
        folder.head(f"{root}/circuits", 2)


def test_nrrd_headers() -> None:
    header = b"NRRD0005\r\n# a comment\r\ntype: uint8\r\nsizes: 2 2\r\nmy key:=a: b\r\n\r\n"
    assert read_nrrd_header(header + b"\xff: \xfe") == {
        "NRRD version": "0005",
        "type": "uint8",
        "sizes": "2 2",
        "my key": "a: b",
    }
    with pytest.raises(InvalidParams, match="NRRD"):
        read_nrrd_header(b"\x89PNG\r\n\r\n")


def test_memory() -> None:
    report = """MemTotal:        8000 kB
MemFree:         1000 kB
MemAvailable:    2000 kB
Cached:           500 kB
Active:           300 kB
Inactive:         200 kB
SwapTotal:          0 kB
SwapFree:           0 kB
Shmem:             10 kB
"""
    memory = read_memory(report)
    assert memory["virtual_memory"]["total"] == 8000 * 1024
    assert memory["virtual_memory"]["percent"] == 75.0
    assert memory["swap_memory"]["percent"] == 0.0
