from __future__ import annotations

import threading
from pathlib import Path

import pytest

from vsmgate.errors import ConfigError
from vsmgate.hands.keyfile import key_in


def test_made_once(tmp_path: Path) -> None:
    path = tmp_path / "relay.key"
    key = key_in(path, 32)
    assert (len(key), key_in(path, 32)) == (32, key)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["relay.key"]


def test_many_at_once_get_one_key(tmp_path: Path) -> None:
    keys: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: keys.append(key_in(tmp_path / "k", 32))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(keys), len(set(keys))) == (8, 1)


def test_refused(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"abc")
    with pytest.raises(ConfigError, match="32 octets"):
        key_in(tmp_path / "short", 32)
    with pytest.raises(ConfigError, match="no such file"):
        key_in(tmp_path / "nowhere" / "k", 32)
